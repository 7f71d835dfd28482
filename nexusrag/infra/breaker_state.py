"""The state of one circuit breaker and how it changes: as scripts for Redis, and for this process alone when Redis is away.

Closed until so many failures in a row, none of them more than a minute after the one before; then open for a time; then half-open,
when one caller at a time tries, until so many of them had success. A try has a lease: one whose caller died is over by itself.
Both forms answer a pair: a state, and for CLOSED the failures in a row, for REFUSED the milliseconds until it is worth asking again,
for TRY nothing, for HALF_OPEN the successes so far.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class State(IntEnum):
    CLOSED = 0
    REFUSED = 1
    TRY = 2
    HALF_OPEN = 3


Outcome = Literal["ok", "failed", "unknown"]
Answer = tuple[State, int]


@dataclass(frozen=True, slots=True)
class Rules:
    """Times in milliseconds."""

    threshold: int
    open_ms: int
    trials: int

    @property
    def row_ms(self) -> int:
        """How long a row of failures is remembered after its last one."""
        return max(60_000, self.open_ms)


_AGAIN_MS = 1000  # when to ask again while somebody else's try is under way
_KEPT_MS = 3_600_000  # a breaker that nobody asks for so long is closed

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

# KEYS: breaker. ARGV: token of the try that may be granted, its lease, milliseconds for which a breaker is open. An end that lies farther
# off than it ever does was set before Redis's clock went back: it counts from now on.
ASK = (
    _NOW
    + f"""
local held = redis.call('HMGET', KEYS[1], 'until', 'lease', 'failures')
if not held[1] then return {{{State.CLOSED:d}, tonumber(held[3] or 0)}} end
local opened, leased = tonumber(held[1]), tonumber(held[2] or 0)
if opened > now + ARGV[3] then
  opened = now + ARGV[3]
  redis.call('HSET', KEYS[1], 'until', opened)
end
if opened > now then return {{{State.REFUSED:d}, opened - now}} end
if leased > now + ARGV[2] then
  leased = now + ARGV[2]
  redis.call('HSET', KEYS[1], 'lease', leased)
end
if leased > now then return {{{State.REFUSED:d}, math.min(leased - now, {_AGAIN_MS})}} end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'lease', now + ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2] + {_KEPT_MS})
return {{{State.TRY:d}, 0}}
"""
)

# KEYS: breaker, the set of those that are not as new. ARGV: outcome, token of the try or '', name of the breaker in the set, and the
# rules: threshold, milliseconds open, trials, milliseconds for which a row is remembered. A report of a try that is over changes nothing.
REPORT = (
    _NOW
    + f"""
local held = redis.call('HMGET', KEYS[1], 'until', 'token', 'failures')
local function open()
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'until', now + ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[5] + {_KEPT_MS})
  redis.call('SADD', KEYS[2], ARGV[3])
  return {{{State.REFUSED:d}, tonumber(ARGV[5])}}
end
local function close()
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[3])
  return {{{State.CLOSED:d}, 0}}
end
if ARGV[2] == '' and not held[1] then
  if ARGV[1] == 'ok' then return close() end
  local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
  if failures >= tonumber(ARGV[4]) then return open() end
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
  redis.call('SADD', KEYS[2], ARGV[3])
  return {{{State.CLOSED:d}, failures}}
end
if not held[1] then return {{{State.CLOSED:d}, tonumber(held[3] or 0)}} end
if ARGV[2] ~= '' and ARGV[2] == held[2] then
  redis.call('HDEL', KEYS[1], 'token', 'lease')
  if ARGV[1] == 'failed' then return open() end
  if ARGV[1] == 'ok' and redis.call('HINCRBY', KEYS[1], 'successes', 1) >= tonumber(ARGV[6]) then return close() end
end
local opened = tonumber(held[1])
if opened > now then return {{{State.REFUSED:d}, opened - now}} end
return {{{State.HALF_OPEN:d}, tonumber(redis.call('HGET', KEYS[1], 'successes') or 0)}}
"""
)

# KEYS: the set. ARGV: beginning of the keys of breakers. Answers name, milliseconds that it stays open, failures, for each not as new.
LIST = (
    _NOW
    + """
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local held = redis.call('HMGET', ARGV[1] .. name, 'until', 'failures')
  if held[1] then
    found[#found + 1] = {name, math.max(tonumber(held[1]) - now, 0), -1}
  elseif held[2] then
    found[#found + 1] = {name, 0, tonumber(held[2])}
  else
    redis.call('SREM', KEYS[1], name)
  end
end
return found
"""
)

# KEYS: the set. ARGV: beginning of the keys of breakers, names. Answers how many there were.
RESET = """
local gone = 0
for place = 2, #ARGV do
  gone = gone + redis.call('DEL', ARGV[1] .. ARGV[place])
  redis.call('SREM', KEYS[1], ARGV[place])
end
return gone
"""


@dataclass(slots=True)
class LocalState:
    """The same for one process. `now` is in milliseconds by a clock that never goes back."""

    failures: int = 0
    _remembered_until: int = 0
    _until: int | None = None
    _token: str = ""
    _lease: int = 0
    _successes: int = 0

    @property
    def as_new(self) -> bool:
        return self._until is None and self.failures == 0

    def close(self) -> Answer:
        """Forget everything."""
        self.failures = self._remembered_until = self._lease = self._successes = 0
        self._until, self._token = None, ""
        return State.CLOSED, 0

    def open(self, now: int, open_ms: int) -> Answer:
        """Refuse for a time."""
        self.close()
        self._until = now + open_ms
        return State.REFUSED, open_ms

    def _forget(self, now: int) -> None:
        if now > self._remembered_until:
            self.failures = 0

    def ask(self, now: int, token: str, lease_ms: int) -> Answer:
        """Whether to call."""
        if self._until is None:
            self._forget(now)
            return State.CLOSED, self.failures
        if self._until > now:
            return State.REFUSED, self._until - now
        if self._lease > now:
            return State.REFUSED, min(self._lease - now, _AGAIN_MS)
        self._token, self._lease = token, now + lease_ms
        return State.TRY, 0

    def report(self, now: int, outcome: Outcome, token: str, rules: Rules) -> Answer:
        """How a call went."""
        if not token and self._until is None:
            if outcome == "ok":
                return self.close()
            self._forget(now)
            self.failures, self._remembered_until = self.failures + 1, now + rules.row_ms
            return self.open(now, rules.open_ms) if self.failures >= rules.threshold else (State.CLOSED, self.failures)
        if self._until is None:
            self._forget(now)
            return State.CLOSED, self.failures
        if token and token == self._token:
            self._token, self._lease = "", 0
            if outcome == "failed":
                return self.open(now, rules.open_ms)
            self._successes += outcome == "ok"
            if self._successes >= rules.trials:
                return self.close()
        return (State.REFUSED, self._until - now) if self._until > now else (State.HALF_OPEN, self._successes)
