import pytest
import tensorflow as tf

from trainer.distribution.runtime import exact_float32

tf32 = tf.config.experimental


@pytest.mark.parametrize("before", [True, False])
def test_products_are_exact_until_the_end(before):
    tf32.enable_tensor_float_32_execution(before)
    try:
        with exact_float32():
            assert not tf32.tensor_float_32_execution_enabled()
        assert tf32.tensor_float_32_execution_enabled() == before
    finally:
        tf32.enable_tensor_float_32_execution(True)
