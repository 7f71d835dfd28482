"""What other domains may ask of quotas.

quota = await quota_of(resources, principal, work)   in force for the caller's tenant; kept per process, so as a rule without a
                                                 statement; without `work` (outside a transaction) it opens one
quota = await quota_in(work, settings)           that of the transaction's tenant, read anew
watch(call, quota, day, month)                   after units were counted; each is (units used, tokens used or 0): soft caps and
                                                 overages are told once for each period, when the answer was given
raise exceeded("day", limit, used)               402 QUOTA_EXCEEDED; `counted="tokens"` for tokens
await snapshot(work, settings)                   what clients are shown: limit, used, remaining
caps(quota, …)                                   as the ledger takes them
"""

from nexusrag.billing.quotas.cache import CHANGED, Quotas, quota_of
from nexusrag.billing.quotas.limits import Quota
from nexusrag.billing.quotas.schemas import QuotaSnapshot, QuotaWindow
from nexusrag.billing.quotas.service import caps, exceeded, quota_in, snapshot, watch

__all__ = [
    "CHANGED",
    "Quota",
    "QuotaSnapshot",
    "QuotaWindow",
    "Quotas",
    "caps",
    "exceeded",
    "quota_in",
    "quota_of",
    "snapshot",
    "watch",
]
