"""Streams are independent of each other and of the device."""

import jax
import jax.numpy as jnp
import numpy as np

from lvdecode.training import randomness


def streams(step=3, place=range(8), seed=0):
  return randomness.Streams(
    jax.random.key(seed), jnp.int32(step), jnp.array(list(place), jnp.int32)
  )


def data(keys):
  return np.asarray(jax.random.key_data(keys))


def test_an_example_draws_by_its_place_alone():
  whole = data(streams().per_example('latent'))
  part = data(streams(place=[5, 2]).per_example('latent'))
  np.testing.assert_array_equal(part, whole[[5, 2]])
  assert len(np.unique(whole, axis=0)) == 8


def test_seed_step_and_name_change_every_stream():
  base = streams()
  for other in (streams(step=4), streams(seed=1)):
    assert (data(base.key('a')) != data(other.key('a'))).any()
    assert (data(base.per_example('a')) != data(other.per_example('a'))).any()
  assert (data(base.key('a')) != data(base.key('b'))).any()
  np.testing.assert_array_equal(data(base.key('a')), data(streams().key('a')))


def test_device_stream_differs_per_device_and_micro_batch():
  def draw(place, _):
    here = randomness.Streams(jax.random.key(0), jnp.int32(0), place)
    return jax.random.key_data(here.device('dropout', 'd')), (
      jax.random.key_data(here.key('shared'))
    )

  run = jax.vmap(draw, axis_name='d')
  same_places = jnp.zeros((4, 2), jnp.int32)
  dropout, shared = run(same_places, jnp.arange(4))
  assert len(np.unique(dropout, axis=0)) == 4
  assert len(np.unique(shared, axis=0)) == 1
  first = streams(place=[0, 1]).device('dropout', None)
  second = streams(place=[2, 3]).device('dropout', None)
  assert (data(first) != data(second)).any()
