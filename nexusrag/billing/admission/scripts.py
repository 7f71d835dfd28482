"""The Lua that Redis runs (6.2 or newer): what is decided together is one script, and time is Redis's own, in microseconds.

A bucket is kept as one number, the moment at which it will be full again; a missing one is full. After a jump of the clock into the
past that moment is too far off: the bucket then counts as empty, and fills from there, so that nobody is locked out.

Units of a day or a month are two fields of a hash: `p`, of plain requests, for which Redis is the source, and `r`, of runs, which the
ledger has, too. Field `e` is the epoch in which the hash was loaded from PostgreSQL; in another epoch it is loaded again.

A lease of a request under way is a member `kind|units|day|id` of a sorted set, scored by its expiry.
"""

_CLOCK = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
"""

_BUCKET = """
local function keep(key, full)
  redis.call('SET', key, string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
end
local function bucket(key, interval, burst)
  local room = interval * burst
  local full = math.max(now, tonumber(redis.call('GET', key) or '0'))
  if full > now + room then
    full = now + room
    keep(key, full)
  end
  full = full + interval
  return full, full - now - room
end
"""

# KEYS: bucket of the credential, bucket of the tenant, leases, day, month, epoch, days to write, days to compare.
# ARGV: 1 rates count, 2-5 interval and burst of both buckets, 6 most leases, 7 length of a lease, 8 lease, 9 units, 10 their field,
# 11-12 most units in day and month (-1: no limit), 13 day, 14 tenant and day, 15 units must be known, 16 epoch that the process knows.
# Answers {-1}: load the units first, for a process that does not know the epoch, too: it may remember more than was loaded.
# Else {refusing bucket or 0, wait in ms, leased, refusing period or 0, used in day, in month, the plain ones of those, what was gone of
# the tenant's bucket before, in thousandths, or 0 where it was not more than a quarter or four tokens, and the bucket that this request has
# emptied or 0: the wait is until there is a token again}.
# Leased is 2 where few places are left: so few that a place which becomes free a little late could cost somebody else theirs.
ADMIT = (
    _CLOCK
    + _BUCKET
    + """
local field, units, used, plain = ARGV[10], tonumber(ARGV[9]), {}, {}
local ahead, emptied, again = 0, 0, 0
local epoch = redis.call('GET', KEYS[6])
for i = 4, 5 do
  local held = redis.call('HMGET', KEYS[i], 'p', 'r', 'e')
  if epoch == ARGV[16] and held[3] == epoch then
    used[i - 3], plain[i - 3] = held[1] + held[2], tonumber(held[1])
  elseif ARGV[15] == '1' then
    return {-1}
  else
    units, used[i - 3], plain[i - 3] = 0, -1, -1
  end
end
if redis.call('ZSCORE', KEYS[3], ARGV[8]) then
  return {0, 0, 2, 0, used[1], used[2], plain[1], plain[2], ahead, emptied}
end
local known = used[1] >= 0 and used[2] >= 0
for _, member in ipairs(known and redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100) or {}) do
  redis.call('ZREM', KEYS[3], member)
  local of, back, day = string.match(member, '^(%a)|(%d+)|(%d+)|')
  if of == 'p' and day == ARGV[13] and tonumber(back) > 0 then
    for i = 4, 5 do
      plain[i - 3] = redis.call('HINCRBY', KEYS[i], 'p', -back)
      used[i - 3] = used[i - 3] - back
    end
    redis.call('SADD', KEYS[7], ARGV[14])
  end
end
if ARGV[1] == '1' then
  local full1, wait1 = bucket(KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
  local full2, wait2 = bucket(KEYS[2], tonumber(ARGV[4]), tonumber(ARGV[5]))
  local wait = math.max(wait1, wait2)
  if wait > 0 then
    return {wait1 >= wait2 and 1 or 2, math.ceil(wait / 1000), 0, 0, used[1], used[2], plain[1], plain[2], ahead, emptied}
  end
  keep(KEYS[1], full1)
  keep(KEYS[2], full2)
  wait1, wait2 = wait1 + ARGV[2], wait2 + ARGV[4]
  again = math.ceil(math.max(wait1, wait2, 0) / 1000)
  emptied = again > 0 and (wait1 >= wait2 and 1 or 2) or 0
  local gone = full2 - ARGV[4] - now
  if gone > ARGV[4] * math.max(4, ARGV[5] / 4) then
    ahead = math.floor(1000 * gone / (ARGV[4] * ARGV[5]))
  end
end
local most, over = tonumber(ARGV[6]), 0
for i = 1, 2 do
  local limit = tonumber(ARGV[10 + i])
  if over == 0 and units > 0 and limit >= 0 and used[i] + units > limit then
    over = i
  end
end
local left = most == 0 and math.huge or most - redis.call('ZCARD', KEYS[3])
local place = left > 0
if not place or over > 0 then
  return {0, again, place and 1 or 0, over, used[1], used[2], plain[1], plain[2], ahead, emptied}
end
redis.call('ZADD', KEYS[3], string.format('%.0f', now + ARGV[7]), ARGV[8])
redis.call('PEXPIRE', KEYS[3], math.ceil(ARGV[7] / 500))
if units > 0 then
  for i = 4, 5 do
    redis.call('HINCRBY', KEYS[i], field, units)
    used[i - 3] = used[i - 3] + units
  end
  if field == 'p' then
    plain[1], plain[2] = plain[1] + units, plain[2] + units
    redis.call('SADD', KEYS[7], ARGV[14])
  else
    redis.call('ZADD', KEYS[8], string.format('%.0f', now + 2000000), ARGV[14])
  end
end
return {0, again, left <= math.max(8, most / 2) and 2 or 1, 0, used[1], used[2], plain[1], plain[2], ahead, emptied}
"""
)

# KEYS: leases, day, month, days to write. ARGV: lease, units to give back, their field, tenant and day.
# A lease is ended once, so units are given back once, however often the script is sent.
# Answers 0 where it was ended before, or there are none to give back; and 1 also where Redis has forgotten everything.
RELEASE = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 1 - redis.call('EXISTS', KEYS[2])
end
if ARGV[2] == '0' then
  return 0
end
for i = 2, 3 do
  if redis.call('HEXISTS', KEYS[i], ARGV[3]) == 1 and redis.call('HINCRBY', KEYS[i], ARGV[3], -ARGV[2]) < 0 then
    redis.call('HSET', KEYS[i], ARGV[3], 0)
  end
end
if ARGV[3] == 'p' then
  redis.call('SADD', KEYS[4], ARGV[4])
end
return 1
"""

# KEYS: leases of any tenants. ARGV: length of a lease, then pairs of the number of a key and a lease of it.
RENEW = (
    _CLOCK
    + """
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[tonumber(ARGV[i])], string.format('%.0f', now + ARGV[1]), ARGV[i + 1])
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, math.ceil(ARGV[1] / 500))
end
"""
)

# KEYS: epoch, day, month, days to write. ARGV: a new epoch, its life in ms, p and r of the day, p and r of the month,
# seconds to keep day and month, tenant and day. What Redis still has is raised, never lowered. Answers the epoch.
LOAD = """
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
local epoch = redis.call('GET', KEYS[1])
for i = 2, 3 do
  local held = redis.call('HMGET', KEYS[i], 'p', 'r', 'e')
  if held[3] ~= epoch then
    local p, r = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    redis.call('HSET', KEYS[i], 'p', math.max(p, tonumber(held[1] or 0)), 'r', math.max(r, tonumber(held[2] or 0)), 'e', epoch)
    redis.call('EXPIRE', KEYS[i], ARGV[5 + i])
  end
end
redis.call('SADD', KEYS[4], ARGV[9])
return epoch
"""

# KEYS: epoch, days to write, pairs of day and month. ARGV: a new epoch or '', its life in ms, seconds to keep day and month, then for each
# pair tenant and day, plain units of the day and of the month. Raises what is lower, whether or not it is loaded.
TELL = """
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
for i = 3, #KEYS, 2 do
  local at = 5 + (i - 3) / 2 * 3
  for j = 0, 1 do
    if tonumber(redis.call('HGET', KEYS[i + j], 'p') or 0) < tonumber(ARGV[at + 1 + j]) then
      redis.call('HSET', KEYS[i + j], 'p', ARGV[at + 1 + j])
      redis.call('EXPIRE', KEYS[i + j], ARGV[3 + j])
      redis.call('SADD', KEYS[2], ARGV[at])
    end
  end
end
"""

# KEYS: epoch, days. Plain units of each day, -1 where they are not of this epoch.
PLAIN = """
local epoch, found = redis.call('GET', KEYS[1]), {}
for i = 2, #KEYS do
  local held = redis.call('HMGET', KEYS[i], 'p', 'e')
  found[i - 1] = epoch and held[2] == epoch and tonumber(held[1]) or -1
end
return found
"""

# KEYS: days to write, days. ARGV: pairs of tenant and day, and the plain units that were written. What has changed since stays marked.
WRITTEN = """
for i = 2, #KEYS do
  if tonumber(redis.call('HGET', KEYS[i], 'p') or -1) == tonumber(ARGV[2 * i - 2]) then
    redis.call('SREM', KEYS[1], ARGV[2 * i - 3])
  end
end
"""

# KEYS: leases, day, month, days to compare. ARGV: tenant and day.
# Units of runs in day and month, -1 while a run's lease stands: the ledger may not have it yet. Forgotten ones need no comparison.
RUNS = """
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(member, 1, 1) == 'r' then
    return {-1, -1}
  end
end
local day, month = redis.call('HGET', KEYS[2], 'r'), redis.call('HGET', KEYS[3], 'r')
if not day or not month then
  redis.call('ZREM', KEYS[4], ARGV[1])
  return {-1, -1}
end
return {tonumber(day), tonumber(month)}
"""

# KEYS: as above. ARGV: tenant and day, units of runs as they were seen, and as the ledger has them.
AGREE = """
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(member, 1, 1) == 'r' then
    return 0
  end
end
for i = 2, 3 do
  if redis.call('HGET', KEYS[i], 'r') ~= ARGV[i] then
    return 0
  end
end
for i = 2, 3 do
  redis.call('HSET', KEYS[i], 'r', ARGV[i + 2])
end
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
"""

# KEYS: days to compare. ARGV: how many, microseconds until those are due again. They are due again unless they come to agree.
DUE = (
    _CLOCK
    + """
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, member in ipairs(found) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), member)
end
return found
"""
)

# KEYS: bucket of the address, mark of a credential that was good before. ARGV: interval, burst, whether there is such a mark.
# Answers the wait in ms, 0: admitted, -1: admitted for the mark's sake.
STRANGER = (
    _CLOCK
    + _BUCKET
    + """
if ARGV[3] == '1' and redis.call('EXISTS', KEYS[2]) == 1 then
  return -1
end
local full, wait = bucket(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if wait > 0 then
  return math.ceil(wait / 1000)
end
keep(KEYS[1], full)
return 0
"""
)

# KEYS: as above. ARGV: interval, burst, how long the mark lasts in ms. The credential was good: its address gets its token back.
RECOGNISED = (
    _CLOCK
    + _BUCKET
    + """
redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
local full = bucket(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])) - 2 * ARGV[1]
if full > now then
  keep(KEYS[1], full)
else
  redis.call('DEL', KEYS[1])
end
"""
)
