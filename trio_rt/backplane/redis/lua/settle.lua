-- Settles what was claimed, or gives it up without a result. Returns 1, or 0 if it is not ours.
-- KEYS: claim
-- ARGV: who, ms [, result]

if redis.call('HGET', KEYS[1], 'who') ~= ARGV[1] then
  return 0
end
if ARGV[3] then
  redis.call('HSET', KEYS[1], 'result', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
