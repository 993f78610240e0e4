-- Sockets of a node leave a room; all that it has there if none is named.
-- KEYS: sockets of the room on this node, users of the room, nodes of the room, rooms of the node
-- ARGV: node, room [, sid]
-- Returns the users who are not there any more with any socket.

local sockets
if ARGV[3] then
  sockets = {ARGV[3], redis.call('HGET', KEYS[1], ARGV[3])}
else
  sockets = redis.call('HGETALL', KEYS[1])
end
local gone = {}
for index = 1, #sockets, 2 do
  if sockets[index + 1] then
    local user = cjson.decode(sockets[index + 1])[1]
    redis.call('HDEL', KEYS[1], sockets[index])
    if redis.call('HINCRBY', KEYS[2], user, -1) <= 0 then
      redis.call('HDEL', KEYS[2], user)
      table.insert(gone, user)
    end
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SREM', KEYS[3], ARGV[1])
  redis.call('SREM', KEYS[4], ARGV[2])
end
return gone
