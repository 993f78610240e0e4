-- Writes a session of a node. Returns 1, or 0 if another node has it.
-- KEYS: session
-- ARGV: node, ms, 1 if it is lost, data

local node = redis.call('HGET', KEYS[1], 'node')
if node and node ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'lost', ARGV[3], 'data', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
