-- Writes a new session, and where it begins.
-- KEYS: clock, session, meta of the namespace's log
-- ARGV: node, ms of the session, ms of the meta, namespace, data [, where it began]
-- Returns where it begins; nothing if another node has it: this was given late, or again.

local node = redis.call('HGET', KEYS[2], 'node')
if node and node ~= ARGV[1] then
  return false
end
local place = advance(KEYS[1], 0)
local begin = ARGV[6] or place
redis.call('HSETNX', KEYS[3], 'begin', place)
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[2], 'node', ARGV[1], 'lost', '0', 'namespace', ARGV[4], 'data', ARGV[5])
redis.call('HSETNX', KEYS[2], 'begin', begin)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return begin
