-- A socket of a user is in a room. Returns 1 if the user was not before, with any socket.
-- KEYS: sockets of the room on this node, users of the room, nodes of the room, rooms of the node
-- ARGV: sid, user, info, node, room

redis.call('SADD', KEYS[4], ARGV[5])
redis.call('SADD', KEYS[3], ARGV[4])
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode({ARGV[2], ARGV[3]}))
if before then
  return 0
end
return redis.call('HINCRBY', KEYS[2], ARGV[2], 1) == 1 and 1 or 0
