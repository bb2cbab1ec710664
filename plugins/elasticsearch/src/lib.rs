//! elasticsearch
