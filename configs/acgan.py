"""The published run: a conditional GAN of chest radiographs at 64 x 64 pixels.

    python -m cxr_gan.main --config=configs/acgan.py --workdir=runs/acgan

Every key the code reads stands here with its unit. Change one on the command line,
`--config.batch_size=128`, or import this file in one of your own and override it.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The default configuration, unlocked."""
    config = ConfigDict()
    config.seed = 0  # of weights, batches, noise and augmentation

    # Data. dataset: "phantom" or "phantom:N", a folder of class folders, a MedMNIST
    # .npz, "tfds:NAME", or "tfrecord:FOLDER".
    config.dataset = "phantom"
    config.resolution = 64  # pixels a side: a power of two from 32 to 512
    config.samples_per_class = (0,)  # images used of each class, (100, 0) or (100,)
    #                                  for all alike; 0 = all there are
    config.split_seed = 0  # which images are held out where the data has no val

    # Networks. Features at r x r pixels: 32 / r times those at 32, at most the maximum.
    config.latent_size = 128  # numbers of N(0, 1) behind an image
    config.generator = ConfigDict()
    config.generator.name = "residual"
    config.generator.features_at_32 = 64
    config.generator.max_features = 128
    config.generator.embedding = 64  # numbers that stand for one class
    config.discriminator = ConfigDict()
    config.discriminator.name = "residual"
    config.discriminator.features_at_32 = 32
    config.discriminator.max_features = 256
    config.precision = "float32"  # of both networks' arithmetic, or "bfloat16": for
    #            TPUs, GPUs and CPUs with AMX, where 3 x 3 convolutions alone are so;
    #            weights, norms, losses, R1 and pixels stay float32
    config.group_per_class = 4  # images of each class in a group whose deviation D sees

    # Losses
    config.loss = ConfigDict()
    config.loss.adversarial = "least_squares"  # "hinge", "logistic", "relativistic"
    config.loss.classes = "real"  # what D learns classes from: "real" images, "both",
    #                    or "discriminating", where it tells real from generated in each
    config.loss.class_weight_d = 0.5  # of D's loss of that name
    config.loss.class_weight_g = 0.4  # of G's
    config.loss.feature_matching = 0.0  # weight of G's distance to D's class means
    config.loss.sameness_weight = 1.0  # of differing less, or more, than real images
    config.loss.r1_weight = 0.1  # of the gradient penalty on real images
    config.loss.r2_weight = 0.0  # of the same on generated ones
    config.loss.r1_every = 8  # steps; both weights are multiplied by as many

    # Augmentation of all that D sees, real and generated alike; none, for what was
    # measured in docs/ablation.md
    config.augment = ConfigDict()
    config.augment.brightness = 0.0  # width of the range added, of 2 in all
    config.augment.contrast = 0.0  # factor from 1 - this to 1 + this
    config.augment.translation = 0.0  # of a side
    config.augment.cutout = 0.0  # of a side
    config.augment_by_lead = False  # change not all images but a share: from none where
    #                          D's lead is balance.low to all where it is balance.high

    # Balance of the two players: both at full speed while D's lead is in this range;
    # a lead is 0 where D is fooled, and 1 where it is as wide as D's two targets
    config.balance = ConfigDict()
    config.balance.enabled = True
    config.balance.low = 0.4  # below, G slows
    config.balance.high = 0.8  # above, D slows
    config.balance.strength = 6.0  # e-foldings of speed lost per unit of lead beyond
    config.balance.halflife_kimg = 1.0  # of the memory of the lead

    # Optimizers (Adam), one for each player
    config.optimizer_d = ConfigDict()
    config.optimizer_d.learning_rate = 6e-3  # of a weight of fan-in 1
    config.optimizer_d.beta1 = 0.0
    config.optimizer_d.beta2 = 0.99
    config.optimizer_g = config.optimizer_d.copy_and_resolve_references()
    config.optimizer_g.learning_rate = 1e-2
    config.decay = 0.2  # share of total_kimg, its last, in which both rates fall to 0
    config.sharpen = 0.5  # share of total_kimg, its first, in which D comes to see the
    #                       finest checkerboard raised, as Discriminator tells
    config.condition = 0.0  # share of total_kimg, its first, in which labels come in,
    #                         both in what G is told and in the class losses
    config.ema_halflife_kimg = 10.0  # of the averaged generator that is sampled
    config.ema_rampup = 0.05  # the half-life is at most this share of kimg seen so far

    # Schedule
    config.batch_size = 16  # over all devices, equally many of each class
    config.microbatches = 1  # parts of a device's share, one after the other; the same
    #                          step in less memory, for one more forward pass of G
    config.total_kimg = 250.0  # thousands of real images shown to D
    config.max_minutes = 0.0  # wall time of one call, then it saves and ends; 0 = none
    config.report_kimg = 1.0  # between lines of figures
    config.draw_kimg = 10.0  # between grids of samples
    config.evaluate_kimg = 10.0  # between looks at val, which are saved; 0 = none
    config.save_kimg = 10.0  # between checkpoints

    # Faults
    config.on_nan = "stop"  # or "rollback": to the last checkpoint, with other noise
    config.rollbacks = 3  # in a whole run, at most
    return config
