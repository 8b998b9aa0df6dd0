"""Builds the distribution photograph-classifier."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent

# The text is searched, because an import would need the installed dependencies.
VERSIONS_FILE = ROOT / "pipeline" / "system" / "versions.py"
(VERSION,) = re.findall(r'^PROJECT_VERSION = "(.+)"$', VERSIONS_FILE.read_text(), re.M)

AIOHTTP = "aiohttp>=3.10,<4"
BEAM = "apache-beam>=2.77,<3"
CLEANLAB = "cleanlab>=2.8,<3"
HEIF = "pillow-heif>=1,<2"
JPEG_XL = "pillow-jxl-plugin>=1.3,<2"

setuptools.setup(
    name="photograph-classifier",
    version=VERSION,
    description="From a folder of photographs to a classifier on TensorFlow Serving.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["pipeline*", "trainer*", "export*"]),
    package_data={
        "": ["py.typed", "templates/*"],
        "trainer": ["cluster/*", "embedded/*.weights.h5", "recipes/*.flags"],
    },
    entry_points={
        "console_scripts": [
            "photograph-prepare = pipeline.main:run_command",
            "photograph-train = trainer.main:run_command",
            "photograph-compare = trainer.compare:run_command",
            "photograph-check-labels = trainer.check_labels:run_command",
            "photograph-export = export.main:run_command",
            "photograph-serve = export.serve:run_command",
            "photograph-classify = export.client:run_command",
            "photograph-drift = export.drift:run_command",
            "photograph-demo = export.demo:run_command",
        ]
    },
    python_requires=">=3.11,<3.13",
    install_requires=[
        "absl-py>=2.1,<3",
        # TensorFlow, TensorBoard and Beam exclude more; pip combines their ranges.
        "grpcio>=1.74,<2",
        "h5py>=3.11,<4",
        # tensorflow-datasets imports it, but requires it only on older Pythons.
        "importlib_resources>=6.4",
        "jinja2>=3.1,<4",
        "kagglehub>=1,<2",
        "keras>=3.15,<3.16",
        "keras-cv>=0.9,<0.10",
        "matplotlib>=3.9,<4",
        "ml_dtypes>=0.5.1,<1",
        "numpy>=2.0,<3",
        # The first version that reads AVIF.
        "pillow>=11.3,<13",
        "protobuf>=6.31.1,<8",
        "requests>=2.32,<3",
        "scikit-learn>=1.5,<2",
        "threadpoolctl>=3.1,<4",
        "scipy>=1.15,<2",
        # tf.summary needs it; tensorflow itself no longer requires it.
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<4.10",
        # The server's messages, for warm-up requests and configuration.
        "tensorflow-serving-api>=2.21,<2.22",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "beam": [BEAM],
        # The peers that the benchmarks compare with.
        "bench": ["torch>=2.5,<3", "torchvision>=0.20,<1"],
        "dev": [
            AIOHTTP,
            BEAM,
            CLEANLAB,
            HEIF,
            JPEG_XL,
            "codespell>=2.4,<3",
            "hypothesis>=6.100,<7",
            "imagehash>=4.3.2,<5",
            "kubernetes-validate>=1.32,<2",
            # A test compares prediction sets with it.
            "mapie>=1,<2",
            "mypy>=1.18,<3",
            "psutil>=6,<8",
            "pytest>=8,<10",
            "pytest-cov>=6,<8",
            "pytest-xdist>=3.6,<4",
            "pyyaml>=6,<7",
            "ruff>=0.14,<1",
            # The packaging test builds a wheel without network access.
            "setuptools>=70",
            "types-protobuf>=6",
            "types-PyYAML>=6",
            "types-requests>=2.32",
            "wheel>=0.43,<1",
        ],
        # HEIC photographs of iPhones, and JPEG XL.
        "heif": [HEIF, JPEG_XL],
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "serve": [AIOHTTP],
        "trust": [CLEANLAB],
    },
)
