-- As append, for a name that may be the id of a socket. That of one with a session goes into its
-- own log, and to the node that has it. Of what nobody listens to all nodes are told, because one
-- may have a socket of that name without a session.
-- KEYS: clock, stream, meta of the room, session [, key]
-- ARGV: frame, entries kept, ms of the stream, ms of the meta, channel of the room, namespace,
--       wide channel, beginning of the channels of nodes, ms of the key, verb
-- Returns its place.

if KEYS[5] then
  local known = redis.call('GET', KEYS[5])
  if known then
    return known
  end
end
local place = advance(KEYS[1], 1)
local session = redis.call('HMGET', KEYS[4], 'node', 'begin', 'last', 'namespace')
local is_socket = session[2] and session[4] == ARGV[6]
local meta, key = session, KEYS[4]
if not is_socket then
  meta, key = redis.call('HMGET', KEYS[3], 'node', 'begin', 'last'), KEYS[3]
end
local begin, previous = meta[2], meta[3] or meta[2]
if begin and not is_after(place, previous) then
  begin = place
  previous = place
  redis.call('DEL', KEYS[2])
end
if begin then  -- else nobody has ever listened to it, and nobody can recover it
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], place, 'p', previous, 'd', ARGV[1])
  redis.call('HSET', key, 'begin', begin, 'last', place)
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
local message = place .. ' ' .. (previous or place) .. ' ' .. ARGV[1]
if is_socket then
  redis.call(ARGV[10], ARGV[8] .. session[1], message)
else
  if begin then
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
  end
  if redis.call(ARGV[10], ARGV[5], message) == 0 then
    redis.call(ARGV[10], ARGV[7], message)
  end
end
if KEYS[5] then
  redis.call('SET', KEYS[5], place, 'PX', ARGV[9])
end
return place
