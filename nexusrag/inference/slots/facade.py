"""What other domains may ask of model slots."""

from nexusrag.inference.slots.slots import ModelSlots

__all__ = ["ModelSlots"]
