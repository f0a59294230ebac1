"""One's own log from CSV to a judged bundle: python examples/own_log/run.py (after write_log.py)

The same as `adbeam prepare -c examples/own_log/own_log.yaml`, `adbeam tokenize ...`, and so on.
"""

import sys

import adbeam


def main(overrides: list[str]) -> None:
    """Every step, with `section.key=value` overrides."""
    config = adbeam.Config.load("examples/own_log/own_log.yaml", dict(pair.split("=", 1) for pair in overrides))
    prepared = adbeam.steps.prepare(config)
    print(prepared.account["kept"], "events kept,", prepared.account["quarantined"], "quarantined")
    adbeam.steps.tokenize(config)
    adbeam.steps.train(config)
    print("bundle:", adbeam.steps.export(config))
    for name, figures in adbeam.steps.evaluate(config).items():
        print(f"{name:20} recall@10 {figures['recall@10']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
