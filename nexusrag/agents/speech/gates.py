"""What each speech route demands. Audio was paid for with its run."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.web.gate import gate

READ = gate(Action.AUDIO_READ, Resource.AUDIO, legacy=True, enveloped=False, units=0)
