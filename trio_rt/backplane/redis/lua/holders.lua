-- Who holds the leases whose names begin so: name and node of each, those that ended removed.
-- KEYS: ends, holders
-- ARGV: prefix

for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(read_time()))) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
end
local all, found = redis.call('HGETALL', KEYS[2]), {}
for index = 1, #all, 2 do
  if string.sub(all[index], 1, #ARGV[1]) == ARGV[1] then
    table.insert(found, all[index])
    table.insert(found, all[index + 1])
  end
end
return found
