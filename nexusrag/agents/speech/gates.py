"""What each speech route demands."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.web.gate import gate

READ = gate(Action.AUDIO_READ, Resource.AUDIO, legacy=True, enveloped=False)
