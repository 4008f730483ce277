"""One import name, `kerasrnn`: `pipelines/` and `export/` are installed as its subpackages."""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = {
    "kerasrnn": "kerasrnn",
    "kerasrnn.pipelines": "pipelines",
    "kerasrnn.export": "export",
}


def packages() -> list[str]:
    names = list(FOLDERS)
    for name, folder in FOLDERS.items():
        names += [f"{name}.{found}" for found in find_packages(folder)]
    return names


setup(
    name="kerasrnn",
    version="0.1.0",
    description="Recurrent sequence models for Keras 3 on TensorFlow that ship as one file",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10,<3.14",
    package_dir=FOLDERS,
    packages=packages(),
    package_data={"kerasrnn.export": ["page/*"]},
    install_requires=[
        "tensorflow>=2.20,<2.22",
        "keras>=3.12,<3.17",
        "h5py>=3.11,<4",
        "tensorflow-text>=2.20,<2.22; sys_platform != 'win32'",
        "tf2onnx>=1.17,<1.18",
        "onnx>=1.19,<1.24",
        "onnxruntime>=1.23,<1.33",
        "sentencepiece>=0.2.3,<0.3",
        "sacrebleu>=2.5,<3",
        "babel>=2.14,<3",
        "pillow>=11,<14",
        "matplotlib>=3.9.2,<4",
    ],
    extras_require={
        "embeddings": ["gensim>=4.4,<5"],
        "test": [
            "pytest>=8,<10",
            "pytest-xdist>=3.6,<4",
            "gensim>=4.4,<5",
            "ruff>=0.14,<0.18",
            "build>=1.2,<2",
            "psutil>=6,<8",
            "setuptools>=68",
            "wheel>=0.43",
            "onnxruntime-extensions>=0.15,<0.16",
        ],
        "sentencepiece-onnx": ["onnxruntime-extensions>=0.15,<0.16"],
    },
    entry_points={"console_scripts": ["kerasrnn = kerasrnn.cli.command:program"]},
)
