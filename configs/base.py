"""Every key there is, with its reason; the other configs change some.

A config module has `get_config(arg)`. `arg` is what follows the colon of
`--config=configs/x.py:arg`: names of variants, joined by commas. Every config
has the variant `quick`: the same code on a model and data so small that it
ends within a minute on two cores, without dropout.
"""

from collections.abc import Callable, Mapping

from ml_collections import config_dict

from lvdecode import errors

Config = config_dict.ConfigDict


def get_config(arg: str = '') -> Config:
  """The embedded data, and a small model told z at two points."""
  c = Config()
  c.seed = 0  # of parameters, order of the data, noise

  c.data = Config()
  # 'embedded' (needs nothing), 'files' (data.path), 'ptb' (pip install
  # lvdecode[ptb]) or 'tfds:NAME'.
  c.data.source = 'embedded'
  c.data.path = ''  # files: a .txt/.tsv/.jsonl, or a folder of train.tsv, …
  c.data.text_field = 'text'  # of .jsonl and tfds
  c.data.label_field = ''  # '' for no label
  # What is given with a text, for a model of p(text | condition): a field of
  # .jsonl and tfds; of .tsv 'label', or 'condition' (label, condition, text).
  c.data.condition_field = ''  # '' for none
  # .jsonl lists of sentences as (condition, text): 'missing' (any sentence,
  # given the others), 'ending' (the last), 'prompt' (all but the first).
  c.data.story = ''
  c.data.limit = 0  # most texts a split; 0 for all
  c.data.label_share = 1.0  # of the training labels; docs/semi_supervised.md

  c.tokenizer = Config()
  c.tokenizer.kind = 'word'  # 'word', 'bpe' (byte level), 'char', 'file'
  c.tokenizer.vocab_size = 10_000  # at most; special tokens counted
  c.tokenizer.path = ''  # file: tokenizer.json, or vocab.json's folder
  # file: special tokens behind its own; with '<|pad|>' GPT-2's padding is not
  # its end of text.
  c.tokenizer.added = ()

  c.pipeline = Config()
  c.pipeline.batch_size = 64  # over all devices and micro-batches
  c.pipeline.lengths = (12, 16, 20, 24)  # static shapes; BOS, EOS counted
  c.pipeline.overlong = 'truncate'  # 'drop': both are counted; 'refuse'
  # For an encoder with a tokenizer of its own: longer texts are cut for it.
  c.pipeline.encoder_length = 32
  c.pipeline.condition_length = 32  # static, for data with a condition
  c.pipeline.workers = 0  # processes that assemble batches; 0: a thread

  # Weights to begin with; their sizes and tokenizer take the place of those
  # below. Folders of Hugging Face's layout, or names on its hub.
  c.pretrained = Config()
  c.pretrained.decoder = ''  # of a GPT-2
  c.pretrained.encoder = ''  # of a BERT, or a GPT-2 for encoder.kind 'own'

  c.model = Config()
  c.model.latent_size = 32  # Z
  # 'xla', 'cudnn' (fused: GPU, bfloat16, heads of width 8 n), or what is there.
  # With a memory_score, memory in some layers or a prefix it is always XLA's.
  c.model.attention = 'auto'
  # One program for all layers: compiles as fast for 48 as for 2, and runs a
  # little slower.
  c.model.scan_layers = False
  # What the backward pass computes again, for memory: 'dots' all but products
  # with weights, 'all_dots' all but products, 'block' everything.
  c.model.remat = 'none'
  c.model.dtype = 'auto'  # 'bfloat16' on accelerators, 'float32' on CPUs
  c.model.decoder = Config()
  # The embedding's rows are rounded up to a multiple: 128 is faster on
  # accelerators where the vocabulary is odd (50,257); 1: off.
  c.model.decoder.vocab_multiple = 1
  c.model.decoder.layers = 4
  c.model.decoder.heads = 4
  c.model.decoder.width = 128
  c.model.decoder.inner = 0  # width of the MLPs; 0: 4 width
  c.model.decoder.positions = 64  # at least the longest of pipeline.lengths
  c.model.decoder.dropout = 0.1
  c.model.decoder.activation = 'gelu_tanh'  # GPT-2's; 'gelu', 'relu', 'silu'
  c.model.decoder.epsilon = 1e-5  # of the layer norms
  c.model.adapters = Config()  # LoRA on the decoder: docs/adapting.md
  c.model.adapters.rank = 0  # 0: off
  c.model.adapters.alpha = 16.0  # the change is alpha / rank down up
  c.model.adapters.targets = ('.*attn/c_attn',)  # paths of its modules
  c.model.encoder = Config()
  # 'own', 'shared_embeddings' (of the decoder), 'decoder' (its blocks), or
  # 'bert' with its own tokenizer, for the weights of pretrained.encoder.
  c.model.encoder.kind = 'shared_embeddings'
  c.model.encoder.layers = 2
  c.model.encoder.heads = 4
  c.model.encoder.width = 128
  c.model.encoder.inner = 0
  c.model.encoder.positions = 0  # 0: as the decoder's
  c.model.encoder.activation = 'gelu_tanh'
  c.model.encoder.epsilon = 1e-5
  c.model.encoder.dropout = 0.1
  c.model.encoder.pooling = 'attention'  # 'mean', 'first'
  c.model.posterior = Config()
  # gamma: means are normalised over the batch, so that the batch's KL is at
  # least Z gamma^2 / 2 (BN-VAE). The paper tries 0.3 to 0.7; 0: off.
  c.model.posterior.batch_norm = 0.0
  c.model.posterior.batch_norm_decay = 0.9  # of what evaluation divides by
  # Nats per sequence below which no text's KL can fall (delta-VAE); 0: off.
  c.model.posterior.min_rate = 0.0
  c.model.prior = Config()
  c.model.prior.kind = 'standard'  # N(0, I); 'learned': p(z | condition)
  # Whether the condition is read for it by the posterior's encoder, or by one
  # of its own (of the encoder's sizes, below likewise).
  c.model.prior.share = True
  c.model.condition = Config()  # for data with one
  # How it reaches the decoder besides through z: any of 'prefix' (its tokens in
  # front), 'memory' (a slot a token), 'cross' (a sub-layer a block).
  c.model.condition.routes = ()
  # Embeddings that tell its parts apart, and it from the text: 5 for stories
  # of five sentences; 0: none.
  c.model.condition.segments = 0
  c.model.condition.share = True  # memory, cross: the posterior's encoder
  c.model.condition.init = 'normal'  # 'zero': cross is silent at first
  c.model.injection = Config()
  # Any of 'input', 'memory', 'softmax', 'fuse'; () is a plain GPT.
  c.model.injection.points = ('input', 'memory')
  c.model.injection.init = 'normal'  # 'zero': silent before the first step
  c.model.injection.memory_slots = 1
  c.model.injection.memory_layers = ()  # () for all
  c.model.injection.memory_tied = False  # True: key = value (OPTIMUS)
  # Start of a learned bias on the slots' scores; None for no bias.
  c.model.injection.memory_score = config_dict.placeholder(float)
  c.model.injection.softmax_rank = 0  # of z's map to the vocabulary; 0: full

  c.objective = Config()
  c.objective.beta = Config()  # weight of the KL; 1 is the ELBO
  # 'constant' (= end), 'linear', 'sigmoid', 'cosine', 'cyclical',
  # 'zero_then_ramp', 'ramp_hold_reset': pictures in docs/objective.md.
  c.objective.beta.kind = 'linear'
  c.objective.beta.start = 0.0
  c.objective.beta.end = 1.0
  # Of the rise, or of all cycles together: '500 steps', '3 epochs' or a part
  # of training.steps, which stays within the run however short it is made.
  c.objective.beta.duration = '25 %'
  c.objective.beta.shape = 'linear'  # of a cycle's rise; 'sigmoid', 'cosine'
  c.objective.beta.cycles = 4  # cyclical, ramp_hold_reset
  c.objective.beta.wait = 0.25  # of a cycle, at start; ramp_hold_reset
  c.objective.beta.ratio = 0.5  # of a cycle, rising; the rest is at end
  c.objective.free_bits = Config()
  # 'none'; of a sequence 'total', 'total_batch'; of a dimension 'dim_sample',
  # 'dim_batch', 'dim_mask'. '_batch' compares the batch's mean, so that single
  # sequences may lie below.
  c.objective.free_bits.kind = 'dim_batch'
  c.objective.free_bits.nats = 0.15  # of a sequence or of a dimension
  c.objective.rate = Config()
  # A target for the KL. 'none'; 'distance' (beta |KL - target|); 'dual' (KL at
  # least the target, by a multiplier that learns); 'pi' (a controller sets
  # beta, no schedule). With any, free_bits.kind = 'none'.
  c.objective.rate.kind = 'none'
  c.objective.rate.target = 5.0  # nats per sequence, mean over the batch
  # dual: 1e-3 asks for a hundred steps at 10 nats too few until the KL is free
  # at beta = 1, and as many until it is dear again.
  c.objective.rate.dual_step = 1e-3
  # pi: ControlVAE's Kp; its Ki of 1e-4 is for tens of thousands of steps.
  c.objective.rate.proportional = 0.01
  c.objective.rate.integral = 1e-3
  c.objective.rate.beta_min = 0.0  # pi
  c.objective.rate.beta_max = 1.0  # pi: above 1 it may squeeze the KL as well
  # 'iwae' and 'dreg' (for the encoder, with less variance) tighten the bound by
  # `samples` draws; they need beta = 1, no free bits, rate 'none' or 'dual'.
  c.objective.estimator = 'elbo'
  # Of z; elbo: their mean. Each at a decoder's cost, but for z at the softmax
  # alone, where they share one.
  c.objective.samples = 1
  # Steps of an auto-encoder (no KL) before beta's schedule and a fresh decoder
  # begin (Li 2019); 0: off.
  c.objective.pretraining_steps = 0
  # One step of so many has no KL: an auto-encoder's and a VAE's objective by
  # turns (Fang 2021: 2); 0: off.
  c.objective.autoencode_every = 0
  c.objective.mmd = Config()
  c.objective.mmd.weight = 0.0  # nats per MMD^2 of q(z) to p(z); 0: off
  c.objective.mmd.kernel = 'inverse_multiquadric'  # (WAE); 'gaussian'
  c.objective.bag_of_words = 0.0  # weight of -log p(words | z); 0: off
  c.objective.latent_dropout = 0.0  # of z's numbers, for what reads them
  c.objective.word_dropout = 0.0  # of the decoder's input (Bowman 2016)
  # Larger logits are worked off in chunks; 0: 32 on a CPU, 128 elsewhere.
  c.objective.logits_mib = 0

  # A classifier that learns from texts without labels, too: the objective of
  # docs/semi_supervised.md in the place of -ELBO.
  c.semi_supervised = Config()
  c.semi_supervised.labels = ()  # their names, sorted; () for no such run
  c.semi_supervised.prior = ()  # p(y) of each; () for the same
  # What a nat of -log q(y | x) counts; a text's words are a hundred nats, which
  # pull at the embeddings that classifier and decoder may share.
  c.semi_supervised.classifier = 100.0
  c.semi_supervised.generative = 1.0  # weight of the bounds; 0: labels alone
  # Labelled texts are repeated until so much of an epoch is theirs; 0: not.
  c.semi_supervised.labelled_share = 0.0

  c.optimizer = Config()
  c.optimizer.learning_rate = 1e-3
  c.optimizer.warmup_steps = 100
  c.optimizer.decay = 'cosine'  # 'constant'
  c.optimizer.end_fraction = 0.02  # last rate / peak, for the cosine
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.99
  c.optimizer.eps = 1e-8
  # The loss is in nats per sequence, so gradients are tens of times those of
  # a mean over tokens; Adam does not mind, and the clip only takes spikes.
  c.optimizer.clip_norm = 50.0  # 0: off
  # (pattern of the whole parameter path, value); the first match decides, and
  # every parameter must be covered.
  c.optimizer.weight_decay = (
    ('.*(bias|scale|score|embedding)', 0.0),
    ('.*', 0.01),
  )
  c.optimizer.multipliers = (('.*', 1.0),)  # of the learning rate; 0 freezes
  # (steps, multipliers) before those above hold, one stage after the other
  # from step 0: docs/adapting.md.
  c.optimizer.stages = ()

  c.training = Config()
  c.training.steps = 2_000
  c.training.accumulate = 1  # micro-batches a step
  # Most examples a device works on at once, whatever devices there are: fewer
  # devices take more micro-batches for the same batch. 0: as accumulate says.
  c.training.micro_batch = 0
  c.training.ema = 0.0  # decay of averaged parameters; 0: none
  # Encoder updates for each of the decoder, until the validation split's
  # mutual information stops rising (He 2019); 1: off.
  c.training.encoder_updates = 1
  # 'pmap' (each device its part of a batch), 'mesh' (the same, divided by the
  # compiler), 'fsdp' (parameters and moments divided, too), 'jit' (one device).
  # All devices of all processes take part: docs/tpu.md.
  c.training.parallel = 'pmap'
  c.training.model_axis = 1  # fsdp: devices that share heads, MLPs, vocabulary
  # fsdp: (pattern of the whole parameter path, axes), e.g. ('.*wpe/embedding',
  # ('', 'data')): an axis or '' for each dimension. Else split by shape.
  c.training.sharding = ()
  c.training.log_every = 20
  c.training.evaluate_every = 500
  c.training.checkpoint_every = 500
  c.training.keep = 2  # the latest
  c.training.keep_period = 0  # and every so many steps; 0: none
  c.training.best_metric = 'negative_elbo'  # and the best; '' for none
  c.training.max_skipped = 20  # non-finite steps in a row that end a run

  c.evaluation = Config()  # while training, on the validation split
  c.evaluation.batch_size = 128
  c.evaluation.texts = 2_048  # so many, evenly spread; 0 for all
  return variants(c, arg, {})


def quick(c: Config) -> None:
  """So small that it ends within a minute; comparable on any devices."""
  c.data.limit = 1_024
  c.tokenizer.vocab_size = min(c.tokenizer.vocab_size, 1_000)
  c.pipeline.batch_size = 16
  c.pipeline.lengths = (c.pipeline.lengths[0], c.pipeline.lengths[-1])
  c.model.latent_size = 8
  for part in (c.model.decoder, c.model.encoder):
    part.layers = 2
    part.heads = 2
    part.width = 32
    part.dropout = 0.0
  c.optimizer.warmup_steps = 10
  c.optimizer.stages = tuple((5, rules) for _, rules in c.optimizer.stages)
  c.objective.beta.duration = '40 steps'
  c.training.steps = 60
  c.training.log_every = 10
  c.training.evaluate_every = 20
  c.training.checkpoint_every = 20
  c.evaluation.batch_size = 32
  c.evaluation.texts = 64


def variants(
  c: Config, arg: str, known: Mapping[str, Callable[[Config], None]]
) -> Config:
  """Applies the variants named in `arg`, in their order."""
  known = {'quick': quick} | dict(known)
  for name in filter(None, arg.split(',')):
    if name not in known:
      # config_flags would bury a ValueError under a traceback.
      raise KeyError(
        f'argument {name!r}, {errors.did_you_mean(name, tuple(known))}'
      )
    known[name](c)
  return c
