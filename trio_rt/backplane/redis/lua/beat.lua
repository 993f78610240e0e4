-- A node tells that it is there, and learns who is.
-- KEYS: nodes
-- ARGV: node, ms of its lease, 1 if it is new, ms after which the dead are forgotten
-- Returns {alive, dead}; {} if the others may have taken it for dead already.

local now = read_time()
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[3] ~= '1' and (not ends or tonumber(ends) <= now) then
  return {}
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now - ARGV[4]))
redis.call('ZADD', KEYS[1], whole(now + ARGV[2]), ARGV[1])
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. whole(now), '+inf'),
  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(now)),
}
