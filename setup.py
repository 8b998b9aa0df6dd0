"""Installs the packages pipeline, trainer and export."""

import setuptools

setuptools.setup(
    name="photograph-classifier",
    version="0.1.0",
    description="From a folder of photographs to a classifier on TensorFlow Serving.",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["pipeline*", "trainer*", "export*"]),
    package_data={"trainer": ["*.flags"]},
    python_requires=">=3.11,<3.13",
    install_requires=[
        "absl-py>=2.1,<3",
        "h5py>=3.11,<4",
        # tensorflow-datasets imports it, but asks for it only on older Pythons.
        "importlib_resources>=6.4",
        "imagehash>=4.3.2,<5",
        "kagglehub>=1,<2",
        "keras>=3.15,<3.16",
        "keras-cv>=0.9,<0.10",
        "matplotlib>=3.9,<4",
        "numpy>=2.0,<3",
        "pillow>=11,<13",
        "requests>=2.32,<3",
        "scikit-learn>=1.5,<2",
        "scipy>=1.13,<2",
        # tf.summary needs it; tensorflow itself no longer asks for it.
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<4.10",
        # The server's messages, for warm-up requests and configuration.
        "tensorflow-serving-api>=2.21,<2.22",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "beam": ["apache-beam>=2.77,<3"],
        # Only to compare with.
        "bench": ["torch>=2.5,<3", "torchvision>=0.20,<1"],
        "dev": [
            "aiohttp>=3.10,<4",
            "apache-beam>=2.77,<3",
            "hypothesis>=6.100,<7",
            "psutil>=6,<8",
            "pytest>=8,<10",
            "kubernetes-validate>=1.32,<2",
            "pyyaml>=6,<7",
            "ruff>=0.14,<1",
        ],
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "serve": ["aiohttp>=3.10,<4"],
    },
)
