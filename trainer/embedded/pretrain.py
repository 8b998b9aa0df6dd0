"""`python -m trainer.embedded.pretrain`: trains the embedded weights again.

It draws pictures of many kinds of things (see drawn_things.py), trains MobileNet 0.25
to distinguish them, and writes the weights of the backbone. It needs no other data.
"""

from absl import flags

from pipeline.system import command_line, console
from trainer.embedded import EMBEDDED_WEIGHTS
from trainer.embedded.drawn_things import KINDS
from trainer.embedded.pretraining import pretrain

FLAGS = flags.FLAGS
flags.DEFINE_string("out", EMBEDDED_WEIGHTS, "File to write, NAME.weights.h5.")
flags.DEFINE_integer("per_kind", 300, "Pictures to train on, of each kind.", 1)
flags.DEFINE_integer("epochs", 30, "Epochs.", 1)
flags.DEFINE_integer("batch_size", 64, "Batch size.", 1)
flags.DEFINE_integer("seed", 1, "Decides pictures, initial weights and order.", 0)


def main(argv: list[str]) -> None:
    """Trains and writes the weights."""
    console.refuse_arguments("trainer.embedded.pretrain", argv)
    if not FLAGS.out.endswith(".weights.h5"):
        console.fail(
            "trainer.embedded.pretrain",
            ValueError(f"--out must end with .weights.h5. Received: --out={FLAGS.out}"),
        )
    accuracy = pretrain(
        FLAGS.out,
        per_kind=FLAGS.per_kind,
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        seed=FLAGS.seed,
    )
    print(f"validation accuracy over {len(KINDS)} kinds: {accuracy:.3f}\n{FLAGS.out}")


if __name__ == "__main__":
    command_line.run(main)
