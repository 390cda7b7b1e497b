"""The web page through HTTP: each page's states, what no page lets through, who may do what."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import situations
from ebbtide import keys
from ebbtide.api.access import Caller, Rule
from ebbtide.cluster.protocol import KNATIVE, SourceError if False else KNATIVE  # noqa
