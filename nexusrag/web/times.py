"""Times that clients give: aware, in UTC from here on, and such that every part of the product can hold them."""

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime

from nexusrag.kernel.clock import within_calendar

Time = Annotated[AwareDatetime, AfterValidator(within_calendar)]
