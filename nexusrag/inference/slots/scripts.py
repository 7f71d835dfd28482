"""The places in Redis, as scripts. A place is a lease, and so is waiting for one: those of a dead process come back by themselves.

Under the prefix of KEYS[1]: `held` and `seen` (tokens of holders and of waiters by the end of their lease), `owners` and `waiting` (their
tenants, of a waiter its process too), `queue` (waiters by arrival), `processes` (those that took part within a minute), `inbox:<process>`
(tokens of waiters that were given a place). Whoever waits longest goes first among the tenants with the fewest places.
"""

_BEGIN = """
local at = KEYS[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function forget(token)
  redis.call('ZREM', at .. ':held', token)
  redis.call('HDEL', at .. ':owners', token)
end

local function leave(token)
  redis.call('ZREM', at .. ':queue', token)
  redis.call('ZREM', at .. ':seen', token)
  redis.call('HDEL', at .. ':waiting', token)
end

local function hold(token, tenant, lease)
  redis.call('ZADD', at .. ':held', now + lease, token)
  redis.call('HSET', at .. ':owners', token, tenant)
end

local function join(token, tenant, process, lease)
  if not redis.call('ZSCORE', at .. ':queue', token) then
    redis.call('ZADD', at .. ':queue', redis.call('INCR', at .. ':arrivals'), token)
    redis.call('HSET', at .. ':waiting', token, process .. ' ' .. tenant)
  end
  redis.call('ZADD', at .. ':seen', now + lease, token)
end

local function sweep()
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', at .. ':held', '-inf', now)) do forget(token) end
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', at .. ':seen', '-inf', now)) do leave(token) end
  redis.call('ZREMRANGEBYSCORE', at .. ':processes', '-inf', now)
end

local function split(waiter)
  local cut = string.find(waiter, ' ', 1, true)
  return string.sub(waiter, 1, cut - 1), string.sub(waiter, cut + 1)
end

local function give(total, lease)
  local free = total - redis.call('ZCARD', at .. ':held')
  if free <= 0 then return end
  local queue = redis.call('ZRANGE', at .. ':queue', 0, 999)
  if #queue == 0 then return end
  local has = {}
  for _, tenant in ipairs(redis.call('HVALS', at .. ':owners')) do has[tenant] = (has[tenant] or 0) + 1 end
  local waiters = redis.call('HMGET', at .. ':waiting', unpack(queue))
  while free > 0 do
    local best, least
    for place, waiter in ipairs(waiters) do
      if waiter then
        local _, tenant = split(waiter)
        if not best or (has[tenant] or 0) < least then best, least = place, has[tenant] or 0 end
      end
    end
    if not best then return end
    local process, tenant = split(waiters[best])
    leave(queue[best])
    hold(queue[best], tenant, lease)
    redis.call('RPUSH', at .. ':inbox:' .. process, queue[best])
    redis.call('PEXPIRE', at .. ':inbox:' .. process, 60000)
    has[tenant] = least + 1
    waiters[best] = false
    free = free - 1
  end
end
"""

# ARGV: process, total, lease, token, tenant. Answers 1 if the place is taken, 0 if the caller waits, and how many processes there are.
TAKE = (
    _BEGIN
    + """
redis.call('ZADD', at .. ':processes', now + 60000, ARGV[1])
sweep()
local total, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('ZCARD', at .. ':queue') == 0 and redis.call('ZCARD', at .. ':held') < total then
  hold(ARGV[4], ARGV[5], lease)
else
  join(ARGV[4], ARGV[5], ARGV[1], lease)
  give(total, lease)
end
return {redis.call('ZSCORE', at .. ':held', ARGV[4]) and 1 or 0, redis.call('ZCARD', at .. ':processes')}
"""
)

# ARGV: process, total, lease, token. Gives a place back or leaves the queue, whichever it is, and gives what is free to who waits.
LEAVE = (
    _BEGIN
    + """
forget(ARGV[4])
leave(ARGV[4])
sweep()
give(tonumber(ARGV[2]), tonumber(ARGV[3]))
return 1
"""
)

# ARGV: process, total, lease, number of holders, then token and tenant of each holder and of each waiter. What Redis has forgotten it
# learns anew. Answers the number of processes and those of the waiters that have a place.
RENEW = (
    _BEGIN
    + """
redis.call('ZADD', at .. ':processes', now + 60000, ARGV[1])
local lease, holders = tonumber(ARGV[3]), tonumber(ARGV[4])
for place = 5, #ARGV, 2 do
  local token, tenant = ARGV[place], ARGV[place + 1]
  if (place - 5) / 2 < holders then
    leave(token)
    hold(token, tenant, lease)
  elseif redis.call('ZSCORE', at .. ':held', token) then
    hold(token, tenant, lease)
  else
    join(token, tenant, ARGV[1], lease)
  end
end
sweep()
give(tonumber(ARGV[2]), lease)
local answer = {redis.call('ZCARD', at .. ':processes')}
for place = 5 + 2 * holders, #ARGV, 2 do
  if redis.call('ZSCORE', at .. ':held', ARGV[place]) then answer[#answer + 1] = ARGV[place] end
end
return answer
"""
)

# Answers the tenants of the holders, those of the waiters.
LOOK = (
    _BEGIN
    + """
sweep()
local waiting = {}
for place, waiter in ipairs(redis.call('HVALS', at .. ':waiting')) do
  local _, tenant = split(waiter)
  waiting[place] = tenant
end
return {redis.call('HVALS', at .. ':owners'), waiting}
"""
)

# ARGV: process, total, lease. Every place is free and given to who waits. Answers how many there were.
RESET = (
    _BEGIN
    + """
local held = redis.call('ZCARD', at .. ':held')
redis.call('DEL', at .. ':held', at .. ':owners')
sweep()
give(tonumber(ARGV[2]), tonumber(ARGV[3]))
return held
"""
)
