"""The classifier that the tests of the features share."""

import fakes
import pytest
from fakes.features import FROZEN_LAYERS

from trainer.models import freezing


@pytest.fixture
def classifier():
    """The smallest classifier; its first FROZEN_LAYERS layers are frozen."""
    classifier = fakes.restore_classifier()
    freezing.freeze(classifier.backbone, FROZEN_LAYERS)
    return classifier
