-- Sessions of a node that has another name from now on.
-- KEYS: sessions
-- ARGV: old name, new name
-- Returns 1 for each that was still its own, else 0.

local found = {}
for index, key in ipairs(KEYS) do
  local is_ours = redis.call('HGET', key, 'node') == ARGV[1]
  if is_ours then
    redis.call('HSET', key, 'node', ARGV[2])
  end
  found[index] = is_ours and 1 or 0
end
return found
