"""What each command runs; what is heavy is imported when it does."""

import argparse
import logging

from razorlite.cli.command import model_words, print_json
from razorlite.core.errors import RazorliteError

_log = logging.getLogger("razorlite")


def run_train(args: argparse.Namespace) -> None:
    from razorlite import recipes
    from razorlite.engine.interrupt import StoppedAtEnd

    try:
        metrics = recipes.train(
            args.config,
            work_dir=args.work_dir,
            overrides=args.overrides,
            resume=args.resume,
            subnet=args.subnet,
            fast_dev_run=args.fast_dev_run,
        )
    except StoppedAtEnd as stop:
        metrics = stop.metrics
        _log.info("asked to stop in the last evaluation: the training is done")
    if args.json:
        print_json({"metrics": metrics})


def run_test(args: argparse.Namespace) -> None:
    from razorlite import recipes

    metrics = recipes.test(
        args.config,
        args.checkpoint,
        subnet=args.subnet,
        overrides=args.overrides,
        as_json=args.json,
        out=args.out,
    )
    if args.json:
        print_json(metrics)


def run_search(args: argparse.Namespace) -> None:
    from razorlite import recipes

    subnet = recipes.search(
        args.config,
        args.checkpoint,
        work_dir=args.work_dir,
        overrides=args.overrides,
        resume=args.resume,
        workers=args.workers,
    )
    if args.json:
        print_json({"subnet": subnet.to_dict()})


def run_prune(args: argparse.Namespace) -> None:
    from razorlite import recipes

    if args.show:
        _show_groups(args)
        return
    if args.checkpoint is None:
        raise RazorliteError("prune takes CONFIG and CHECKPOINT; CONFIG alone goes with --show")
    found = (recipes.sensitivity if args.sensitivity else recipes.prune)(
        args.config,
        args.checkpoint,
        work_dir=args.work_dir,
        overrides=args.overrides,
        resume=args.resume,
    )
    if args.json:
        print_json({"cuts": found} if isinstance(found, list) else {"subnet": found.to_dict()})


def _show_groups(args: argparse.Namespace) -> None:
    from razorlite import recipes
    from razorlite.prune.report import lines

    found = recipes.show_groups(args.config, overrides=args.overrides)
    if args.json:
        print_json(found)
    else:
        print(*lines(found), sep="\n")


def run_cost(args: argparse.Namespace) -> None:
    from razorlite import recipes

    cost = recipes.cost(
        args.config,
        subnet=args.subnet,
        shape=tuple(args.shape) if args.shape else None,
        overrides=args.overrides,
        as_json=args.json,
    )
    if args.json:
        print_json(cost)


def run_demo(args: argparse.Namespace) -> None:
    from razorlite import recipes

    rows = recipes.demo(work_dir=args.work_dir, resume=args.resume, seed=args.seed)
    if args.json:
        print_json({"rows": rows})


def run_export(args: argparse.Namespace) -> None:
    from razorlite import recipes

    of_int8 = {"calibration": args.calibration, "max_drop": args.max_drop}
    given = {name: value for name, value in of_int8.items() if value is not None}
    if given and not args.int8:
        raise RazorliteError("--calibration and --max-drop go with --int8")
    result = recipes.export(
        *model_words(args),
        format=args.format,
        out=args.out,
        subnet=args.subnet,
        images=args.images,
        int8=args.int8,
        half=args.half,
        **given,
    )
    if args.json:
        print_json(result.to_dict())


def run_config_list(args: argparse.Namespace) -> None:
    from razorlite.core import shipped

    rows = [(shipped.name(path), shipped.summary(path)) for path in shipped.configs()]
    if args.json:
        print_json({"configs": [{"name": name, "summary": about} for name, about in rows]})
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}".rstrip())


def run_config_show(args: argparse.Namespace) -> None:
    from razorlite.core import config

    merged = config.load(args.config, args.overrides, imports=False)
    if not args.defaults and merged.get("distiller.recipe") is None:
        print(merged.dump(), end="")
        return
    from razorlite import recipes

    print(recipes.show_config(args.config, args.overrides, defaults=args.defaults), end="")


def run_config_types(args: argparse.Namespace) -> None:
    from razorlite import recipes

    print(recipes.show_types(args.name))


def run_config_cat(args: argparse.Namespace) -> None:
    from razorlite.core import shipped

    text = shipped.find(args.config).read_text(encoding="utf-8")
    if args.overrides or "distiller:" in text:
        from razorlite import recipes

        text = recipes.cat_config(args.config, args.overrides)
    print(text, end="")


def run_config_check(args: argparse.Namespace) -> None:
    from razorlite import recipes

    remarks = recipes.check_config(args.config, args.overrides, imports=args.allow_imports)
    if args.json:
        print_json({"remarks": remarks})
    else:
        print(*remarks, "OK", sep="\n")
