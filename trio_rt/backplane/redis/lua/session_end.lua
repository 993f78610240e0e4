-- Removes a session of a node. Returns 1, or 0 if there is none, or it is another node's.
-- KEYS: session
-- ARGV: node

if redis.call('HGET', KEYS[1], 'node') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
