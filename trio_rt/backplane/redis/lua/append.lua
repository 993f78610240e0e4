-- Puts a frame behind all others of its log, and publishes it. Once for each idempotency key.
-- KEYS: clock, stream, meta [, key]
-- ARGV: frame, entries kept, ms of the stream, ms of the meta, verb, channel [, ms of the key]
-- Returns its place, the one before it in its log, and 1; or the place and 0 if it was there.

if KEYS[4] then
  local known = redis.call('GET', KEYS[4])
  if known then
    return {known, '', 0}
  end
end
local place = advance(KEYS[1], 1)
local meta = redis.call('HMGET', KEYS[3], 'begin', 'last')
local begin, previous = meta[1], meta[2] or meta[1]
if not begin or not is_after(place, previous) then
  redis.call('DEL', KEYS[2])
  begin, previous = place, place
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], place, 'p', previous, 'd', ARGV[1])
redis.call('HSET', KEYS[3], 'begin', begin, 'last', place)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call(ARGV[5], ARGV[6], place .. ' ' .. previous .. ' ' .. ARGV[1])
if KEYS[4] then
  redis.call('SET', KEYS[4], place, 'PX', ARGV[7])
end
return {place, previous, 1}
