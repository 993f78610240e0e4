-- Claims what runs once.
-- KEYS: claim
-- ARGV: node and number of the one who claims, ms
-- Returns {'new'}, {'running', who} or {'settled', result}.

local known = redis.call('HMGET', KEYS[1], 'who', 'result')
if known[2] then
  return {'settled', known[2]}
elseif known[1] and known[1] ~= ARGV[1] then
  return {'running', known[1]}
end
redis.call('HSET', KEYS[1], 'who', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'new'}
