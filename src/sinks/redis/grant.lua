-- Keeps what each instance has spent of a limit and is granted of it, and grants more if there is
-- room. The only key is a hash with these fields:
--   s:<instance>  what it has spent in all
--   g:<instance>  what it is granted and has not spent, the part of that which running requests
--                 hold, and the time in milliseconds until which it is granted
--   b:<instance>  the number of a rate's beginning there, from which on it counts what it has spent
--   l             a rate's level and the time of it
--   e             the latest time in milliseconds at which an instance missed what it had reported, or
--                 came back from a time without this server
-- Everything that an instance says is absolute: its fields are replaced.
local key, me = KEYS[1], ARGV[1]
local spent, held = tonumber(ARGV[2]), tonumber(ARGV[3])
-- What requests wait for, and the least of them.
local want, least = tonumber(ARGV[4]), tonumber(ARGV[5])
local keep, soon, idle, most = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local valid, kept = tonumber(ARGV[10]), ARGV[11]
-- The beginning of earlier instances of the same ledger, whose use this one reports too.
local heir = ARGV[12]
-- Not empty: this server was away for it since its latest report, and it has reported this limit
-- before. What it may take without knowing the others, of which it has seen so many.
local away, known, alone, seen = ARGV[13], ARGV[14], tonumber(ARGV[15]), tonumber(ARGV[16])
-- A rate: units per millisecond, what of `spent` is not known here, the level to begin with, and the
-- number of its beginning.
local refill, unconfirmed, level = tonumber(ARGV[17]), tonumber(ARGV[18]), tonumber(ARGV[19])
local beginning = ARGV[20]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields = redis.call('HGETALL', key)
local instances, used, holds, granted, lost = 1, 0, 0, 0, 0
local mine, begun, levelled, emptied
for i = 1, #fields, 2 do
  local kind, who, value = string.sub(fields[i], 1, 2), string.sub(fields[i], 3), fields[i + 1]
  if fields[i] == 'l' then
    local was, at = string.match(value, '^(%S+) (%S+)$')
    levelled = tonumber(was) + math.max(now - tonumber(at), 0) * (refill or 0)
  elseif fields[i] == 'e' then
    emptied = tonumber(value)
  elseif who == me then
    if kind == 's:' then mine = tonumber(value) end
    if kind == 'b:' then begun = value end
  elseif heir ~= '' and string.sub(who, 1, #heir) == heir then
    redis.call('HDEL', key, fields[i])
    if refill and kind == 'g:' then
      -- It may have been spent before a crash.
      lost = lost + tonumber(string.match(value, '^%S+'))
    end
  elseif kind == 's:' then
    used = used + tonumber(value)
  elseif kind == 'g:' then
    local amount, running, ends = string.match(value, '^(%S+) (%S+) (%S+)$')
    if tonumber(ends) > now then
      instances = instances + 1
      granted = granted + tonumber(amount)
      holds = holds + tonumber(running)
    else
      redis.call('HDEL', key, fields[i])
      if refill then
        -- It may have been spent.
        lost = lost + tonumber(amount)
        redis.call('HDEL', key, 's:' .. who, 'b:' .. who)
      elseif redis.call('HGET', key, 's:' .. who) == '0' then
        -- A count that has no period is always 0.
        redis.call('HDEL', key, 's:' .. who)
      end
    end
  end
end

local left, elsewhere
if refill then
  -- A rate that begins again: its count is not that of which it had reported a part.
  if begun ~= beginning then mine = nil end
  if levelled then
    level = math.min(levelled, most) - lost - (mine and spent - mine or unconfirmed)
  end
  level = math.min(level, most)
  left, elsewhere = level - granted, most - level
  redis.call('HSET', key, 'l', string.format('%.17g %.0f', level, now), 'b:' .. me, beginning)
else
  left, elsewhere = most - used - granted - spent - held, used + holds
end

local part = math.max(left, 0) / (4 * instances)
-- Near the limit nothing is granted but what requests want.
if part < most / 1024 then part = 0 end
-- A request that needs more than there is gets nothing, so that others can go on meanwhile.
if least > left then want = 0 end
local more = math.max(keep, want, math.min(math.max(soon, idle / instances), part))
more = math.max(math.min(more, left), 0)
-- Everything was lost, or others may have spent without this server: until all have reported again,
-- none gets more than it would without them.
local is_lost = known ~= '' and not mine
if not refill and (away ~= '' or is_lost) then
  emptied = now
  redis.call('HSET', key, 'e', string.format('%.0f', now))
end
local unused = granted - holds
if emptied and math.abs(now - emptied) < 2500 then
  instances = math.max(instances, seen)
  more = math.min(more, alone)
  local known_left = math.min(left, more + (alone - more) * instances)
  -- The rest is granted when all have reported.
  unused, left = unused + left - known_left, known_left
end
more = math.floor(more)
local amount = string.format('%.0f', held + more)
redis.call('HSET', key, 's:' .. me, ARGV[2], 'g:' .. me, string.format('%s %s %.0f', amount, ARGV[3], now + valid))
redis.call('EXPIRE', key, kept)
return {
  amount, string.format('%.0f', math.floor(left - more)), instances,
  string.format('%.0f', math.ceil(elsewhere)), string.format('%.0f', math.floor(unused)),
  is_lost and 1 or 0,
}
