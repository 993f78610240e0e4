-- All that was appended to some logs since a place in each, or why that is not known any more.
-- KEYS: clock, then stream and meta of each log
-- ARGV: entries at most, bytes at most, where the asker's session began (empty if that does not
--       matter), then a place for each log
-- Returns 'ok', the place that this is all up to, then log, place and frame of each entry, log by
-- log; or a reason and the log.

local limit, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {'ok', advance(KEYS[1], 0)}
local epoch = redis.call('HMGET', KEYS[1], 'epoch')[1]
local is_outdated = epoch and ARGV[3] ~= '' and is_after(epoch, ARGV[3])
for log = 1, (#KEYS - 1) / 2 do
  local since = ARGV[log + 3]
  local meta = redis.call('HMGET', KEYS[log * 2 + 1], 'begin', 'last')
  local begin, last = meta[1], meta[2]
  if is_outdated or not begin or is_after(begin, since) or is_after(since, found[2]) then
    return {'forgotten', log}
  end
  if last and is_after(last, since) then
    local entries = redis.call('XRANGE', KEYS[log * 2], '(' .. since, '+', 'COUNT', limit + 1)
    if #entries == 0 then
      return {'expired', log}
    end
    limit = limit - #entries
    if limit < 0 then
      return {'too much', log}
    end
    local before
    for _, entry in ipairs(entries) do
      local previous, frame = entry[2][2], entry[2][4]
      if before == nil and is_after(previous, since) then
        return {'trimmed', log}
      elseif before ~= nil and previous ~= before then
        return {'trimmed', log}
      end
      before = entry[1]
      room = room - #frame
      if room < 0 then
        return {'too much', log}
      end
      table.insert(found, log)
      table.insert(found, before)
      table.insert(found, frame)
    end
    if before ~= last then
      return {'trimmed', log}
    end
  end
end
return found
