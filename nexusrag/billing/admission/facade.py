"""What other domains may ask of admission.

`call.admission` (an `Admission`, None on public routes) has its verdicts: `counted` says whether the units of a run were decided about, and
`used` how many the tenant has used. Whoever decided about them instead tells `say_used`, for the headers of the answer. `Emptied` knows
who was refused a moment ago. `Strangers` limits those who are not known yet, by address.
"""

from nexusrag.billing.admission.emptied import Emptied
from nexusrag.billing.admission.service import Admission, Admissions
from nexusrag.billing.admission.stage import say_used
from nexusrag.billing.admission.strangers import Strangers

__all__ = ["Admission", "Admissions", "Emptied", "Strangers", "say_used"]
