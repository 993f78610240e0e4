-- Gives a session that is lost, or whose node is dead, to a node: to one only.
-- KEYS: session
-- ARGV: node, ms, then the nodes that are dead
-- Returns the data, or nothing.

local session = redis.call('HMGET', KEYS[1], 'node', 'lost', 'data')
local is_free = session[2] == '1'
for index = 3, #ARGV do
  is_free = is_free or session[1] == ARGV[index]
end
if not session[1] or not is_free then
  return false
end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'lost', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return session[3]
