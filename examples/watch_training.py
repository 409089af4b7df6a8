"""Two trainings that TensorBoard shows while they go on.

pip install tensorboard
python examples/watch_training.py
tensorboard --logdir watched/curves
"""

from torch.utils.tensorboard import SummaryWriter

from repro.training.run import train
from repro.words.experiments import plan


def main(folder: str = "watched", **words) -> list:
    """Train IWAE and PIWAE on the small digits; returns their records."""
    with SummaryWriter(f"{folder}/curves") as writer:

        def show(line):
            for name in line.keys() & {"loss", "iwae_64"}:
                writer.add_scalar(f"{line['run']}/{name}", line[name], line["epoch"])

        runs = plan("iwae,piwae", profile="smoke", **words)
        return train(runs, results=folder, on_epoch=show)


if __name__ == "__main__":
    main()
