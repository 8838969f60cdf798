"""Follow channel numbers through one run of a model, call by call.

For models whose forward torch.fx cannot follow: lists of images, loops and branches that depend on
data. Operations are seen as they are called, and each tensor carries the map of its channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from razorlite.structures import tensors_in
from razorlite.trace import maps
from razorlite.trace._move_rules import pointwise
from razorlite.trace._rules import find_rule, plain_rule
from razorlite.trace.attributes import Attribute
from razorlite.trace.calls import Call, is_altered, is_in_place
from razorlite.trace.functions import Owner, layer_of, owners
from razorlite.trace.ledger import Ledger
from razorlite.trace.parameters import bare_tensors
from razorlite.trace.sizes import Size, remembered, source_of
from razorlite.trace.tracing import is_leaf, source_line

_SIZES = ("shape", "size", "numel", "nelement")
_FACTS = {
    "dim",
    "ndim",
    "ndimension",
    "device",
    "dtype",
    "layout",
    "requires_grad",
    "stride",
    "storage_offset",
    "is_contiguous",
    "element_size",
    "get_device",
    "grad_fn",
    "_base",
    "__len__",
    "is_floating_point",
    "is_complex",
    "is_cuda",
    "is_meta",
    "is_sparse",
    "is_quantized",
    "is_leaf",
    "is_mps",
    "is_xpu",
    "is_mkldnn",
    "is_nested",
    "is_inference",
    "names",
    "has_names",
    "data_ptr",
    "_version",
    "itemsize",
    "nbytes",
}
_MAP, _COMPUTED = "_channel_map", "_computed_sizes"


class Watch(TorchFunctionMode):
    """Sees all calls of torch's functions and of a model's modules, and applies the rules.

    Attributes:
        called: paths of the modules that are taken as they are and have run.
        read: ids of the parameters and buffers that a forward has read itself.
    """

    def __init__(self, model: nn.Module, ledger: Ledger, leaves: Sequence[str]) -> None:
        """Keep what is watched and the book to write to.

        Args:
            model: a copy that may be changed.
            ledger: gets channels and ties.
            leaves: patterns of module paths that are not looked into.
        """
        super().__init__()
        self.model, self.ledger, self.leaves = model, ledger, leaves
        self.called: set[str] = set()
        self.read: set[int] = set()
        leaf = partial(is_leaf, leaves=leaves)
        self._bare, self._owners = bare_tensors(model, leaf), owners(model, leaf)
        self._own = {id(x) for x in [*model.parameters(), *model.buffers()]}
        self._paths, self._inside, self._claimed = [""], 0, set[int]()
        self._altered = {module for module in model.modules() if is_altered(module)}

    def run(self, inputs: tuple[Any, ...]) -> None:
        """Call the model; what it returns stays.

        Args:
            inputs: positional arguments; batches of images among them have fixed channels.
        """
        self._paths, self._inside = [""], 0
        handles = [
            handle for name, m in self.model.named_modules() for handle in self._hook(name, m)
        ]
        try:
            with torch.no_grad():
                self._label(inputs)
                with self:
                    out = self.model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        for tensor in tensors_in(out):
            self.ledger.fix(maps.numbers(self._map(tensor)), "output of the model")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function and note what it does to channels."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        return out if self._inside else self._quietly(self._function, func, args, kwargs, out)

    def _quietly(self, note: Callable[..., Any], *args: Any) -> Any:
        """Note something without seeing the functions that this takes."""
        self._inside += 1
        try:
            return note(*args)
        finally:
            self._inside -= 1

    def _label(self, inputs: tuple[Any, ...]) -> None:
        for number, tensor in enumerate(x for x in tensors_in(inputs) if x.dim() > 3):
            dim = tensor.dim() - 3
            channels = self.ledger.produce(f"<{number}>", tensor.shape[dim])
            self.ledger.fix(channels, "input of the model")
            setattr(tensor, _MAP, maps.broadcast(channels, dim, tensor.shape))

    def _hook(self, path: str, module: nn.Module) -> list[RemovableHandle]:
        if path and is_leaf(module, path, self.leaves):
            enter, leave = self._leaf_hooks(path)
        else:
            enter, leave = self._container_hooks(path)
        return [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave, with_kwargs=True),
        ]

    def _leaf_hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: Any) -> None:
            self._inside += 1

        def leave(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            self._inside -= 1
            if not self._inside:
                self._quietly(self._layer, path, module, args, kwargs, out)

        return enter, leave

    def _container_hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: Any) -> None:
            self._paths.append(path)

        def leave(*_: Any) -> None:
            self._paths.pop()

        return enter, leave

    def _layer(self, path: str, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        self.called.add(path)
        name = type(module).__name__
        self._apply(self._call(module, name, True, args, kwargs, out, path=path, module=module))

    def _function(self, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
        raw = _name_of(func)
        if raw in _SIZES:
            return self._remembered(out, args, kwargs)
        if raw in _FACTS:
            return out
        home = str(getattr(func, "__module__", None) or "torch").split(".")[0]
        known = home in ("torch", "torchvision")
        name = raw.strip("_")
        owner = layer_of(name, args, kwargs, self._owners) if known else None
        if owner is not None:
            return self._as_layer(owner, func, name, args, kwargs, out)
        call = self._call(func, name, known, args, kwargs, out, path=self._paths[-1])
        _note_sizes(out, args, kwargs)
        if not any(_is_labelled(x) for x in call.maps()) and not _is_reckoned(call):
            return out
        self._apply(call)
        if is_in_place(raw) and isinstance(args[0], Tensor):
            setattr(args[0], _MAP, self._map(out))
        return out

    def _as_layer(
        self, owner: Owner, func: Any, name: str, args: Any, kwargs: Any, out: Any
    ) -> Any:
        """Apply the rule of a layer that is called as a function; its weights are no channels."""
        self.called.add(owner.path)
        module = owner.module
        self._claimed = {id(x) for x in [*module.parameters(False), *module.buffers(False)]}
        call = self._call(func, name, True, args, kwargs, out, path=owner.path, module=module)
        self._claimed = set()
        self._apply(replace(call, as_function=True, altered=False))
        return out

    @staticmethod
    def _remembered(out: Any, args: Any, kwargs: Any) -> Any:
        labels = vars(args[0]).get(_MAP) if args and isinstance(args[0], Tensor) else None
        known = labels is not None and labels.shape == args[0].shape
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        return remembered(out, labels if known else None, dim if isinstance(dim, int) else None)

    def _call(
        self,
        run: Any,
        name: str,
        known: bool,
        args: Any,
        kwargs: Any,
        out: Any,
        *,
        path: str,
        module: nn.Module | None = None,
    ) -> Call:
        first = args[0] if args else None
        return Call(
            run=run,
            name=name,
            known=known,
            path=path,
            module=module,
            altered=module in self._altered,
            args=args,
            kwargs=kwargs,
            labels=self._mapped(args),
            label_kwargs=self._mapped(kwargs),
            written=args,
            written_kwargs=kwargs,
            out=out,
            node="",
            line=source_line(),
            computed=self._computed(first),
        )

    def _apply(self, call: Call) -> None:
        """Let a rule say what becomes of the channels."""
        written = call.name == "setitem"
        results = [call.args[0]] if written else list(tensors_in(call.out))
        if any(x.numel() == 0 for x in results):
            return  # nothing flows
        if not results:
            self._fix(call, "values are read by")
            return
        labels = list(tensors_in(find_rule(call)(call, self.ledger)))
        if len(labels) != len(results):
            self._fix(call, "no rule for")
            return
        for tensor, found in zip(results, labels, strict=True):
            setattr(tensor, _MAP, maps.settle(found))

    def _fix(self, call: Call, reason: str) -> None:
        for labels in call.maps():
            self.ledger.fix(maps.numbers(labels), f"{reason} {call.where}")

    def _mapped(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._map(value)
        if isinstance(value, Mapping):
            return {key: self._mapped(x) for key, x in value.items()}
        if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
            parts = [self._mapped(x) for x in value]
            return parts if isinstance(value, list) else tuple(parts)
        if is_dataclass(value) and not isinstance(value, type):
            return self._mapped(vars(value))
        return value

    def _map(self, tensor: Tensor) -> Tensor:
        if id(tensor) in self._claimed:
            return maps.blank(tensor.shape)
        found: Tensor | None = vars(tensor).get(_MAP)
        if found is not None and found.shape == tensor.shape:
            return found
        if found is not None:
            self.ledger.fix(maps.numbers(found), "brought to another shape in place")
        if id(tensor) in self._own:
            self.read.add(id(tensor))
        return maps.of_tensor(self._bare.get(id(tensor)), tensor.shape, self.ledger)

    def _computed(self, tensor: Any) -> tuple[bool, ...]:
        if not isinstance(tensor, Tensor) or _MAP in vars(tensor):
            return ()
        found: tuple[bool, ...] = vars(tensor).get(_COMPUTED, (False,) * tensor.dim())
        return found


def _name_of(func: Any) -> str:
    """Return the name of a function, or of the property that it gets."""
    name = str(getattr(func, "__name__", func))
    return str(func.__self__.__name__) if name == "__get__" else name


def _is_reckoned(call: Call) -> bool:
    """Return whether a number of channels takes part in arithmetic."""
    return plain_rule(call) is pointwise and any(source_of(x) is not None for x in call.args)


def _is_labelled(labels: Tensor) -> bool:
    return bool((maps.compact(labels) >= 0).any())


def _note_sizes(out: Any, args: Any, kwargs: Any) -> None:
    """Remember which sizes of a constant were computed from shapes."""
    given = [*args, *kwargs.values()]
    sizes = next((x for x in given if isinstance(x, tuple | list)), given)
    sizes = [x for x in sizes if type(x) in (int, Size, Attribute)]
    if isinstance(out, Tensor) and len(sizes) == out.dim() > 0:
        setattr(out, _COMPUTED, tuple(isinstance(x, Size) for x in sizes))
