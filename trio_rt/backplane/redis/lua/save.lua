-- Writes or removes the state of a lease's name. Returns 1, or 0 if a later holder has been there.
-- KEYS: state
-- ARGV: token, ms for which the token is remembered without a state [, state]

local newest = tonumber(redis.call('HGET', KEYS[1], 'token') or 0)
if newest > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
if ARGV[3] then
  redis.call('HSET', KEYS[1], 'state', ARGV[3])
  redis.call('PERSIST', KEYS[1])
else
  redis.call('HDEL', KEYS[1], 'state')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
