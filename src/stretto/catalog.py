"""The one place that knows protocols, services and models by name, and hands their factories out.

Everything else is given a `ProtocolDefinition` or a factory of state machines. Modules are imported when they are asked for, so that
a command that needs one protocol does not pay for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError
from stretto.core.model import Model
from stretto.core.protocol import ProtocolDefinition
from stretto.core.state_machine import StateMachine

_PROTOCOLS = {
    "adaptive": "stretto.protocols.adaptive:ADAPTIVE",
    "speculative": "stretto.protocols.speculative:SPECULATIVE",
    "multipaxos": "stretto.protocols.multipaxos:MULTIPAXOS",
    "multipaxos-batched": "stretto.protocols.multipaxos:MULTIPAXOS_BATCHED",
    "fastpaxos": "stretto.protocols.fastpaxos:FASTPAXOS",
    "nopaxos": "stretto.protocols.nopaxos:NOPAXOS",
    "unreplicated": "stretto.protocols.unreplicated:UNREPLICATED",
}
_MODELS = {
    ("cas-register", "jepsen"): "stretto.verify.register:CasRegister",
    ("cas-register", "edn"): "stretto.verify.register:CasRegister",
    ("kv", "jsonl"): "stretto.apps.kv_model:model",
    ("kv", "edn"): "stretto.apps.kv_model:model_of_texts",
}
"""What makes a model, by its name and the format of the histories. The stores of texts need not be ours, and differ from it."""
_SERVICES = ("stretto.apps.kv:KeyValueStore", "stretto.core.state_machine:NullMachine")
_STATE_MACHINE_METHODS = ("execute", "undo", "snapshot", "restore")


def protocol_names() -> tuple[str, ...]:
    """The names that `protocol` knows."""
    return tuple(_PROTOCOLS)


def protocol(name: str) -> ProtocolDefinition:
    """The protocol of that name. Raises ConfigurationError with the names that there are."""
    place = _PROTOCOLS.get(name)
    if place is None:
        raise ConfigurationError(f"{name!r} is not a protocol; there are {', '.join(_PROTOCOLS)}", key="protocol")
    module_name, _, attribute = place.partition(":")
    definition: ProtocolDefinition = getattr(import_module(module_name), attribute)
    return definition


def protocol_of_data(data_name: str) -> ProtocolDefinition:
    """The protocol that a data directory names. Raises ConfigurationError with the names that there are."""
    matches = [name for name in _PROTOCOLS if protocol(name).data_name == data_name]
    return protocol(matches[0] if matches else data_name)


def protocol_for(config: ClusterConfig) -> ProtocolDefinition:
    """The protocol that a configuration names. Raises ConfigurationError if there is none, or if it cannot use these members."""
    definition = protocol(config.protocol)
    limit = definition.max_replicas
    if limit is not None and config.n > limit:
        raise ConfigurationError(f"{config.n} replicas are listed; the protocol {definition.name} has at most {limit}", key="replicas")
    if definition.sequencer is None and config.sequencers:
        reason = f"{len(config.sequencers)} are listed; the protocol {definition.name} has none: leave them out"
        raise ConfigurationError(reason, key="sequencers")
    if definition.sequencer is not None and not config.sequencers:
        reason = f"none is listed; the protocol {definition.name} needs one, and another that stands by for it"
        raise ConfigurationError(reason, key="sequencers")
    return definition


def check(config: ClusterConfig) -> None:
    """Raise ConfigurationError if a replica could not be made of this configuration, with the key that is wrong."""
    protocol_for(config)
    service(config.service)


def model_names() -> tuple[str, ...]:
    """The names that `model` knows."""
    return tuple(dict.fromkeys(name for name, _ in _MODELS))


def model(name: str, history_format: str) -> Model:
    """The model of that name for histories of that format. Raises ConfigurationError with the formats that there are."""
    place = _MODELS.get((name, history_format))
    if place is None:
        formats = [known for model_name, known in _MODELS if model_name == name]
        raise ConfigurationError(f"histories for the model {name} are in {' or '.join(formats)}, not in {history_format}", key="format")
    module_name, _, attribute = place.partition(":")
    made: Model = getattr(import_module(module_name), attribute)()
    return made


def model_beside(service_name: str) -> Model | None:
    """The model of a service: what `model()` of the module beside it makes whose name ends in `_model`; None if there is none."""
    beside = service_class(service_name).__module__ + "_model"
    if find_spec(beside) is None:
        return None
    made: Model = import_module(beside).model()
    return made


def workload_beside(service_name: str) -> Callable[..., bytes] | None:
    """What draws operations for a service: `workload(random, keys)` of the module beside it whose name ends in `_workload`; else None."""
    beside = service_class(service_name).__module__ + "_workload"
    if find_spec(beside) is None:
        return None
    workload: Callable[..., bytes] = import_module(beside).workload
    return workload


def service_class(name: str) -> type:
    """The class that `name`, of the form `package.module:Class`, stands for: a `Service`, or a plain state machine.

    Raises ConfigurationError if the module cannot be imported, or has no such class, with what there is.
    """
    module_name, colon, class_name = name.partition(":")
    if not (module_name and colon and class_name):
        raise ConfigurationError(f"{name!r} is not of the form 'package.module:Class', as in {_SERVICES[0]!r}", key="service")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        reason = f"cannot import {module_name!r}: {error}; Stretto itself has {' and '.join(_SERVICES)}"
        raise ConfigurationError(reason, key="service") from error
    except Exception as error:  # whatever the module does when it is imported
        raise ConfigurationError(f"cannot import {module_name!r}: {type(error).__name__}: {error}", key="service") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not (_is_service(found) or _is_state_machine(found)):
        there = [key for key, value in vars(module).items() if _is_own_service(value, module_name)]
        reason = f"{module_name!r} has no service {class_name!r}; it has {', '.join(there) or 'none'}"
        raise ConfigurationError(reason, key="service")
    return found


def service(name: str) -> Callable[[], StateMachine]:
    """What makes the state machine of a service: one that replicas can be built with.

    A `Service` is wrapped in a `ServiceMachine`, a plain state machine in a `SingleVersion`. Raises ConfigurationError as `service_class`
    does, and if the class cannot be made into a state machine, with the reason.
    """
    from stretto.core.state_machine import SingleVersion
    from stretto.services.service import ServiceMachine

    found = service_class(name)
    factory: Callable[[], StateMachine] = partial(ServiceMachine, found) if _is_service(found) else lambda: SingleVersion(found())
    try:
        factory()
    except Exception as error:
        raise ConfigurationError(f"{name} cannot be replicated: {type(error).__name__}: {error}", key="service") from error
    return factory


def _is_own_service(value: Any, module_name: str) -> bool:
    return isinstance(value, type) and value.__module__ == module_name and (_is_service(value) or _is_state_machine(value))


def _is_service(found: type) -> bool:
    from stretto.services.service import Service

    return issubclass(found, Service)


def _is_state_machine(found: type) -> bool:
    return all(callable(getattr(found, method, None)) for method in _STATE_MACHINE_METHODS)
