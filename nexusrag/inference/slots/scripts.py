"""The places in Redis, as scripts. A place is a lease, and so is waiting for one: those of a dead process come back by themselves.

Under the prefix of KEYS[1]: `held` and `seen` (tokens of holders and of waiters by the end of their lease), `owners` and `waiting` (their
tenants, of a waiter its process too), `lines` (tenants that wait), `queue:<tenant>` (its waiters by arrival), `turns` (when each tenant
was last given a place), `processes` (those that took part within a minute), `inbox:<process>` (tokens of waiters that were given one).
The next place is for the tenant with the fewest, among those for the one that was given one longest ago, and there for who waits longest.
So however many of one tenant wait, another's turn comes.
"""

_BEGIN = """
local at = KEYS[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function forget(token)
  redis.call('ZREM', at .. ':held', token)
  redis.call('HDEL', at .. ':owners', token)
end

local function split(waiter)
  local cut = string.find(waiter, ' ', 1, true)
  return string.sub(waiter, 1, cut - 1), string.sub(waiter, cut + 1)
end

local function leave(token)
  local waiter = redis.call('HGET', at .. ':waiting', token)
  if waiter then
    local _, tenant = split(waiter)
    redis.call('ZREM', at .. ':queue:' .. tenant, token)
    redis.call('HDEL', at .. ':waiting', token)
    if redis.call('EXISTS', at .. ':queue:' .. tenant) == 0 then redis.call('SREM', at .. ':lines', tenant) end
  end
  redis.call('ZREM', at .. ':seen', token)
end

local function hold(token, tenant, lease)
  redis.call('ZADD', at .. ':held', now + lease, token)
  redis.call('HSET', at .. ':owners', token, tenant)
end

local function serve(token, tenant, lease)
  hold(token, tenant, lease)
  redis.call('ZADD', at .. ':turns', redis.call('INCR', at .. ':arrivals'), tenant)
  redis.call('ZREMRANGEBYRANK', at .. ':turns', 0, -10001)
end

local function join(token, tenant, process, lease)
  if not redis.call('ZSCORE', at .. ':queue:' .. tenant, token) then
    redis.call('ZADD', at .. ':queue:' .. tenant, redis.call('INCR', at .. ':arrivals'), token)
  end
  redis.call('SADD', at .. ':lines', tenant)
  redis.call('HSET', at .. ':waiting', token, process .. ' ' .. tenant)
  redis.call('ZADD', at .. ':seen', now + lease, token)
end

-- An end that lies farther off than a lease lasts was set before Redis's clock went back: it counts from now on.
local function sweep(lease)
  for _, ends in ipairs(lease and {at .. ':held', at .. ':seen'} or {}) do
    for _, token in ipairs(redis.call('ZRANGEBYSCORE', ends, '(' .. now + lease, '+inf')) do
      redis.call('ZADD', ends, now + lease, token)
    end
  end
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', at .. ':held', '-inf', now)) do forget(token) end
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', at .. ':seen', '-inf', now)) do leave(token) end
  redis.call('ZREMRANGEBYSCORE', at .. ':processes', '-inf', now)
end

-- The process and the place in the queue of the tenant's first waiter. What Redis has lost a part of is left to be joined anew.
local function first(tenant)
  while true do
    local head = redis.call('ZRANGE', at .. ':queue:' .. tenant, 0, 0, 'WITHSCORES')
    if #head == 0 then
      redis.call('SREM', at .. ':lines', tenant)
      return nil
    end
    local waiter = redis.call('HGET', at .. ':waiting', head[1])
    if waiter then return {token = head[1], process = split(waiter), arrival = tonumber(head[2])} end
    redis.call('ZREM', at .. ':queue:' .. tenant, head[1])
  end
end

local function give(total, lease)
  local free = total - redis.call('ZCARD', at .. ':held')
  if free <= 0 or redis.call('EXISTS', at .. ':lines') == 0 then return end
  local has, lines = {}, {}
  for _, tenant in ipairs(redis.call('HVALS', at .. ':owners')) do has[tenant] = (has[tenant] or 0) + 1 end
  for _, tenant in ipairs(redis.call('SMEMBERS', at .. ':lines')) do
    lines[tenant] = {has = has[tenant] or 0, turn = tonumber(redis.call('ZSCORE', at .. ':turns', tenant) or 0), first = first(tenant)}
  end
  local function before(one, other)
    if one.has ~= other.has then return one.has < other.has end
    if one.turn ~= other.turn then return one.turn < other.turn end
    return one.first.arrival < other.first.arrival
  end
  while free > 0 do
    local best, tenant
    for name, line in pairs(lines) do
      if line.first and (not best or before(line, best)) then best, tenant = line, name end
    end
    if not best then return end
    local token, inbox = best.first.token, at .. ':inbox:' .. best.first.process
    leave(token)
    serve(token, tenant, lease)
    redis.call('RPUSH', inbox, token)
    redis.call('PEXPIRE', inbox, 60000)
    best.has, best.turn, best.first = best.has + 1, tonumber(redis.call('GET', at .. ':arrivals')), first(tenant)
    free = free - 1
  end
end
"""

# ARGV: process, total, lease, token, tenant. Answers 1 if the place is taken, 0 if the caller waits, and how many processes there are.
TAKE = (
    _BEGIN
    + """
redis.call('ZADD', at .. ':processes', now + 60000, ARGV[1])
local total, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
sweep(lease)
if redis.call('EXISTS', at .. ':lines') == 0 and redis.call('ZCARD', at .. ':held') < total then
  serve(ARGV[4], ARGV[5], lease)
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
sweep(tonumber(ARGV[3]))
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
sweep(lease)
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
