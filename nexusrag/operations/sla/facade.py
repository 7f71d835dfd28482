"""What other domains may ask of service levels."""

from nexusrag.operations.sla.evaluate import figures_of
from nexusrag.operations.sla.repository import breached_with, measured, measured_of_everybody
from nexusrag.operations.sla.verdict import Figures

__all__ = ["Figures", "breached_with", "figures_of", "measured", "measured_of_everybody"]
