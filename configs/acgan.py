"""The default configuration: a conditional GAN at 64 x 64 pixels.

    python -m cxr_gan.main --config=configs/acgan.py --workdir=runs/acgan

This file has every key that the code reads, with its unit. Change a key on the command
line, `--config.batch_size=128`, or in a configuration file of your own (docs/train.md).
Two CPU cores train the 250 kimg in about 80 minutes. docs/performance.md has other
programs. docs/results.md has the scores of pediatric64, trained before G had noise.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The default configuration, unlocked."""
    config = ConfigDict()
    config.seed = 0  # seed of initialisation, batches, latents and augmentation

    # Start
    config.init = ""  # model whose networks the run starts from: a run, as
    #                   "runs/acgan@best", a published model, as "pediatric64" or
    #                   "NAME.npz"; "" = random networks
    config.init_classes = ""  # class of the model that a new class starts from:
    #                           "VIRAL=PNEUMONIA"; "" = the mean of all classes

    # Data
    config.dataset = "phantom"  # what to train on: "phantom:N", a folder of class
    #                             folders, a manifest such as labels.csv, a prepared
    #                             set, an .npz, or "tfds:NAME"
    config.resolution = 64  # pixels a side: 32, 64, 128, 256 or 512
    config.samples_per_class = (0,)  # images used of each class: (100, 0), or (100,)
    #                                  for every class; 0 = all
    config.split_seed = 0  # seed of the choice of held-out images, if there is no val
    config.patient_pattern = ""  # regular expression that finds the patient in the path
    #                              of a file: its first group, or else the match; "" =
    #                              known naming schemes
    config.views = "frontal"  # views to read: "frontal" or "all"
    config.on_error = "stop"  # images that are damaged, black or constant: "stop" lists
    #                           all of them, "skip" leaves them out and counts them
    config.manifest = ConfigDict()
    config.manifest.file = ""  # column of the manifest with the names of the files; ""
    #                            = found by the usual names, here and below
    config.manifest.label = ""  # column with the labels, or columns of 0 and 1: "A,B"
    config.manifest.patient = ""  # column with the patients
    config.manifest.split = ""  # column with train, val or test; or lists of files:
    #                             "train=a.txt,test=b.txt"; "none" = no split
    config.manifest.view = ""  # column with the views, such as PA, AP or lateral
    config.manifest.where = ""  # rows to use: "view == 'PA' and age >= 18"; "" = all
    config.manifest.classes = ""  # class of each label: "Pneumonia=PNEUMONIA,No
    #                               Finding=NORMAL"; "" = each label is a class
    config.manifest.images = ""  # folder of the files; "" = that of the manifest

    # Networks. Channels at r x r pixels: features_at_32 * 32 / r, at most max_features.
    config.base_resolution = 0  # pixels a side of the images of init, if they are
    #                             smaller, or its own base_resolution; 0 = resolution
    config.latent_size = 128  # dimensions of the normal latent z
    config.generator = ConfigDict()
    config.generator.name = "resnet"  # architecture
    config.generator.features_at_32 = 64  # channels at 32 x 32 pixels
    config.generator.max_features = 128  # largest number of channels
    config.generator.class_embedding_dim = 64  # dimensions of the class embedding
    config.discriminator = ConfigDict()
    config.discriminator.name = "resnet"
    config.discriminator.features_at_32 = 32
    config.discriminator.max_features = 256
    config.compute_dtype = "float32"  # dtype of the layers' products; "bfloat16" is
    #            for TPUs, GPUs and CPUs with AMX, and affects only 3 x 3 convolutions
    #            on CPUs. Parameters, norms, losses, R1 and images stay float32
    config.stddev_group_per_class = 4  # images of each class in a group; D sees the
    #                                    standard deviation within each group

    # Losses
    config.loss = ConfigDict()
    config.loss.adversarial = "least_squares"  # loss of the real and fake scores
    config.loss.class_loss = "real"  # D learns classes from "real" images only, or
    #                                  from real and generated images ("both")
    config.loss.class_weight = ConfigDict()
    config.loss.class_weight.d = 0.5  # weight of the class loss in D's update
    config.loss.class_weight.g = 0.4  # weight of the class loss in G's update
    config.loss.diversity_weight = 1.0  # weight of the loss on variety within a class
    config.loss.spectrum_weight = 0.3  # weight of the loss on the log power of a class
    #                                    by spatial frequency
    config.loss.pair_weight = 0.0  # weight of the loss on what changes with the class,
    #                                most of all in the frame of the image
    config.loss.r1_weight = 0.1  # weight of the gradient penalty on real images
    config.loss.r2_weight = 0.0  # weight of the gradient penalty on generated images
    config.loss.r1_interval = 8  # steps between two computations of the penalties,
    #                              which are multiplied by this number

    # Augmentation. It applies to all images that D sees, real and generated. Off by
    # default. Images span -1 to 1.
    config.augment = ConfigDict()
    config.augment.brightness = 0.0  # width of the range of random offsets
    config.augment.contrast = 0.0  # random factors from 1 - contrast to 1 + contrast
    config.augment.translation = 0.0  # largest shift, as a fraction of a side
    config.augment.cutout = 0.0  # side of the grey square, as a fraction of a side
    config.augment.adaptive = False  # augment a fraction of the images: from 0 at a
    #                                  score gap of balance.low to 1 at balance.high

    # Balance controller. Both networks learn at full speed while the score gap is in
    # the range from low to high. The gap is 0 if D cannot separate real and generated
    # images, 1 if it separates them fully.
    config.balance = ConfigDict()
    config.balance.enabled = True  # False: both networks always learn at full speed
    config.balance.low = 0.4  # below this gap, G's update is scaled down
    config.balance.high = 0.8  # above this gap, D's update is scaled down
    config.balance.strength = 6.0  # update scale: exp(-strength * distance from range)
    config.balance.halflife_kimg = 1.0  # half-life of the moving average of the gap

    # Optimizers. Adam, one for each network.
    config.optimizer_d = ConfigDict()
    config.optimizer_d.learning_rate = 6e-3  # divided by sqrt(fan-in) of each layer
    config.optimizer_d.beta1 = 0.0  # decay of the average gradient
    config.optimizer_d.beta2 = 0.99  # decay of the average squared gradient
    config.optimizer_g = config.optimizer_d.copy_and_resolve_references()
    config.optimizer_g.learning_rate = 1e-2
    config.lr_decay_fraction = 0.2  # last fraction of total_kimg, over which both
    #                                 learning rates fall to 0
    config.ema_halflife_kimg = 10.0  # half-life of the EMA of G, which is sampled
    config.ema_rampup = 0.05  # the half-life is at most this fraction of kimg so far

    # Schedule
    config.batch_size = 16  # over all devices, equally many of each class
    config.total_kimg = 250.0  # thousands of real images shown to D
    config.max_minutes = 0.0  # wall time after which a call saves and ends; 0 = none
    config.log_kimg = 1.0  # kimg between two reports of metrics
    config.sample_kimg = 10.0  # kimg between two grids of samples
    config.eval_kimg = 10.0  # kimg between two validations, which also save; 0 = none
    config.checkpoint_kimg = 10.0  # kimg between two checkpoints

    # Faults
    config.on_nan = "stop"  # after NaN, "stop", or "rollback": continue from the last
    #                         checkpoint with other noise
    config.max_rollbacks = 3  # largest number of rollbacks in the whole run
    return config
