-- Gives a lease a new time, or frees it if that is 0. Returns 1, or 0 if it is somebody else's.
-- KEYS: lease, ends, holders
-- ARGV: name, node, token, ms

local holder = redis.call('HMGET', KEYS[1], 'node', 'token')
if holder[1] ~= ARGV[2] or holder[2] ~= ARGV[3] then
  return 0
end
if ARGV[4] == '0' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('ZADD', KEYS[2], whole(read_time() + ARGV[4]), ARGV[1])
end
return 1
