-- Remembers the account that has an id, and the client whose request created its object. The first
-- key is a hash of some ids: "<client> <account> <minutes>" by the hash of the id. The second one is
-- the writer's mark, which gets the number of this write: a server that has the mark has the id.
local key, id, client, account = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local most, kept = tonumber(ARGV[4]), ARGV[5]
local known = redis.call('HGET', key, id)
if known then
  local owner, at = string.match(known, '^(%S+) (%S+) ')
  -- An id of an account keeps its first client. Another account has another object.
  if owner ~= '0' and (at == account or client == '0') then
    client, account = owner, at
  end
end
local now = math.floor(redis.call('TIME')[1] / 60)
redis.call('HSET', key, id, string.format('%s %s %.0f', client, account, now))
redis.call('EXPIRE', key, kept)
if not known and redis.call('HLEN', key) > most then
  -- Of some at random, the one that was written first.
  local some, oldest, victim = redis.call('HRANDFIELD', key, 8, 'WITHVALUES'), math.huge, nil
  for i = 1, #some, 2 do
    local at = tonumber(string.match(some[i + 1], '(%S+)$'))
    if some[i] ~= id and at < oldest then
      oldest, victim = at, some[i]
    end
  end
  if victim then redis.call('HDEL', key, victim) end
end
-- Without the right to set marks there are ids all the same. Returns 1 if there is a mark.
return redis.pcall('SET', KEYS[2], ARGV[6], 'EX', ARGV[7]).ok and 1 or 0
