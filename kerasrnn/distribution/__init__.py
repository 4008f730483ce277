"""Training on several devices and machines: strategies, shards, TF_CONFIG, who writes files."""

from kerasrnn.base.lazy import lazy

_PLACES = {
    "STRATEGIES": "kerasrnn.base.choices",
    "WorkerLost": "kerasrnn.distribution.multi_worker",
    "any_worker": "kerasrnn.distribution.strategies",
    "chief_first": "kerasrnn.distribution.strategies",
    "distribute": "kerasrnn.distribution.strategies",
    "enable": "kerasrnn.distribution.strategies",
    "gather_bytes": "kerasrnn.distribution.strategies",
    "is_chief": "kerasrnn.distribution.multi_worker",
    "is_multi_worker": "kerasrnn.distribution.multi_worker",
    "shards_here": "kerasrnn.distribution.strategies",
    "strategy": "kerasrnn.distribution.strategies",
    "wait_for_all": "kerasrnn.distribution.strategies",
    "worker_index": "kerasrnn.distribution.multi_worker",
    "workers": "kerasrnn.distribution.multi_worker",
}
__all__ = list(_PLACES)
__getattr__, __dir__ = lazy(__name__, _PLACES)
