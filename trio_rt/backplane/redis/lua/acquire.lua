-- Takes a lease, or a new time for one's own. A new holder's token is greater than all before, even
-- where the counter was lost: then the time makes it so.
-- KEYS: lease, state, counter, ends, holders
-- ARGV: name, node, ms, ms for which the token of a name without a state is remembered
-- Returns {1, token}, or {0, holder, ms left}.

local holder = redis.call('HMGET', KEYS[1], 'node', 'token')
local now, token = read_time(), holder[2]
if holder[1] and holder[1] ~= ARGV[2] then
  return {0, holder[1], redis.call('PTTL', KEYS[1])}
end
if not token then
  token = whole(math.max(tonumber(redis.call('GET', KEYS[3]) or 0) + 1, now))
  redis.call('SET', KEYS[3], token)
  redis.call('HSET', KEYS[1], 'node', ARGV[2], 'token', token)
  redis.call('HSET', KEYS[2], 'token', token)
  if redis.call('HEXISTS', KEYS[2], 'state') == 0 then
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[4], whole(now + ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[5], ARGV[1], ARGV[2])
return {1, token}
