"""Written by tools/compile_schema.py from the models; do not edit. See ebbtide.spec.compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: The schema's form belongs to this version of pydantic_core; with any other, pydantic itself is used.
CORE = "2.50.5"


def schemas(c: Callable[[str], type], d: Callable[..., Any]) -> dict[str, Any]:
    """Return the schemas; ``c`` gives the class of a model's name, ``d`` an instance with the given values."""
    return {
        "Inference": {
            "type": "definitions",
            "schema": {
                "type": "model",
                "cls": c("Inference"),
                "schema": {
                    "type": "model-fields",
                    "fields": {
                        "api_version": {
                            "type": "model-field",
                            "schema": {"type": "literal", "expected": ["ebbtide.dev/v1alpha1"]},
                            "validation_alias": "apiVersion",
                        },
                        "kind": {
                            "type": "model-field",
                            "schema": {"type": "literal", "expected": ["Inference"]},
                            "validation_alias": "kind",
                        },
                        "metadata": {
                            "type": "model-field",
                            "schema": {
                                "type": "model",
                                "cls": c("Metadata"),
                                "schema": {
                                    "type": "model-fields",
                                    "fields": {
                                        "name": {
                                            "type": "model-field",
                                            "schema": {"type": "str", "min_length": 1, "max_length": 253},
                                            "validation_alias": "name",
                                        },
                                        "namespace": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {"type": "str", "min_length": 1, "max_length": 63},
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "namespace",
                                        },
                                        "labels": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "dict",
                                                        "keys_schema": {"type": "str"},
                                                        "values_schema": {
                                                            "type": "str",
                                                            "max_length": 63,
                                                            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
                                                        },
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "labels",
                                        },
                                        "annotations": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "dict",
                                                        "keys_schema": {"type": "str"},
                                                        "values_schema": {"type": "str"},
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "annotations",
                                        },
                                    },
                                },
                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                "ref": "ebbtide.spec.inference.Metadata",
                            },
                            "validation_alias": "metadata",
                        },
                        "spec": {
                            "type": "model-field",
                            "schema": {
                                "type": "model",
                                "cls": c("InferenceSpec"),
                                "schema": {
                                    "type": "model-fields",
                                    "fields": {
                                        "project": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {"type": "str", "min_length": 1, "max_length": 63},
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "project",
                                        },
                                        "serving": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "literal",
                                                        "expected": ["auto", "knative", "kserve", "kserve-standard"],
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "serving",
                                        },
                                        "image": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {"type": "str", "min_length": 1},
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "image",
                                        },
                                        "image_pull_policy": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "literal",
                                                        "expected": ["Always", "Never", "IfNotPresent"],
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "imagePullPolicy",
                                        },
                                        "image_pull_secrets": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "model",
                                                        "cls": c("PullSecret"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "str",
                                                                        "max_length": 253,
                                                                        "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                    },
                                                                    "validation_alias": "name",
                                                                },
                                                                "user_credential": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {"type": "bool"},
                                                                        "default": False,
                                                                    },
                                                                    "validation_alias": "userCredential",
                                                                },
                                                                "exclude": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {"type": "bool"},
                                                                        "default": False,
                                                                    },
                                                                    "validation_alias": "exclude",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.container.PullSecret",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "imagePullSecrets",
                                        },
                                        "command": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "union",
                                                        "choices": [
                                                            {"type": "str", "min_length": 1},
                                                            {"type": "list", "items_schema": {"type": "str"}},
                                                        ],
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "command",
                                        },
                                        "args": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "union",
                                                        "choices": [
                                                            {"type": "str", "min_length": 1},
                                                            {"type": "list", "items_schema": {"type": "str"}},
                                                        ],
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "args",
                                        },
                                        "working_dir": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {"type": "str", "min_length": 1},
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "workingDir",
                                        },
                                        "create_home_dir": {
                                            "type": "model-field",
                                            "schema": {"type": "default", "schema": {"type": "bool"}, "default": False},
                                            "validation_alias": "createHomeDir",
                                        },
                                        "environment_variables": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "model",
                                                        "cls": c("Variable"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "name": {
                                                                    "type": "model-field",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                    "validation_alias": "name",
                                                                },
                                                                "value": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "value",
                                                                },
                                                                "secret": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "definition-ref",
                                                                                "schema_ref": "ebbtide.spec.container.KeyOf",
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "secret",
                                                                },
                                                                "config_map": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "definition-ref",
                                                                                "schema_ref": "ebbtide.spec.container.KeyOf",
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "configMap",
                                                                },
                                                                "pod_field_ref": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "model",
                                                                                "cls": c("FieldRef"),
                                                                                "schema": {
                                                                                    "type": "model-fields",
                                                                                    "fields": {
                                                                                        "path": {
                                                                                            "type": "model-field",
                                                                                            "schema": {
                                                                                                "type": "str",
                                                                                                "min_length": 1,
                                                                                            },
                                                                                            "validation_alias": "path",
                                                                                        }
                                                                                    },
                                                                                },
                                                                                "config": {
                                                                                    "strict": True,
                                                                                    "extra_fields_behavior": "forbid",
                                                                                },
                                                                                "ref": "ebbtide.spec.container.FieldRef",
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "podFieldRef",
                                                                },
                                                                "user_credential": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "definition-ref",
                                                                                "schema_ref": "ebbtide.spec.container.KeyOf",
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "userCredential",
                                                                },
                                                                "exclude": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {"type": "bool"},
                                                                        "default": False,
                                                                    },
                                                                    "validation_alias": "exclude",
                                                                },
                                                                "description": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "description",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.container.Variable",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "environmentVariables",
                                        },
                                        "probes": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("Probes"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "readiness": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "definition-ref",
                                                                            "schema_ref": "ebbtide.spec.container.Probe",
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "readiness",
                                                            },
                                                            "liveness": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "definition-ref",
                                                                            "schema_ref": "ebbtide.spec.container.Probe",
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "liveness",
                                                            },
                                                            "startup": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "definition-ref",
                                                                            "schema_ref": "ebbtide.spec.container.Probe",
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "startup",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.container.Probes",
                                                },
                                                "default": d("Probes", readiness=None, liveness=None, startup=None),
                                            },
                                            "validation_alias": "probes",
                                        },
                                        "model": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "model",
                                                        "cls": c("ServedModel"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "format": {
                                                                    "type": "model-field",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                    "validation_alias": "format",
                                                                },
                                                                "format_version": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str", "min_length": 1},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "formatVersion",
                                                                },
                                                                "uri": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str", "min_length": 1},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "uri",
                                                                },
                                                                "runtime": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "str",
                                                                                "max_length": 253,
                                                                                "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "runtime",
                                                                },
                                                                "protocol": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "literal",
                                                                                "expected": [
                                                                                    "v1",
                                                                                    "v2",
                                                                                    "grpc-v1",
                                                                                    "grpc-v2",
                                                                                ],
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "protocol",
                                                                },
                                                                "storage_secret": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "str",
                                                                                "max_length": 253,
                                                                                "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "storageSecret",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.serving.ServedModel",
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "model",
                                        },
                                        "compute": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("Compute"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "cpu_core_request": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "float",
                                                                            "ge": 0,
                                                                            "le": 100000,
                                                                            "allow_inf_nan": False,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "cpuCoreRequest",
                                                            },
                                                            "cpu_core_limit": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "float",
                                                                            "ge": 0,
                                                                            "le": 100000,
                                                                            "allow_inf_nan": False,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "cpuCoreLimit",
                                                            },
                                                            "cpu_memory_request": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "union",
                                                                            "choices": [
                                                                                {
                                                                                    "type": "str",
                                                                                    "max_length": 40,
                                                                                    "pattern": "^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$",
                                                                                },
                                                                                {"type": "int", "ge": 0},
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "cpuMemoryRequest",
                                                            },
                                                            "cpu_memory_limit": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "union",
                                                                            "choices": [
                                                                                {
                                                                                    "type": "str",
                                                                                    "max_length": 40,
                                                                                    "pattern": "^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$",
                                                                                },
                                                                                {"type": "int", "ge": 0},
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "cpuMemoryLimit",
                                                            },
                                                            "gpu_devices_request": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 0,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "gpuDevicesRequest",
                                                            },
                                                            "gpu_request_type": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "literal",
                                                                            "expected": [
                                                                                "portion",
                                                                                "memory",
                                                                                "migProfile",
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "gpuRequestType",
                                                            },
                                                            "gpu_portion_request": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "float",
                                                                            "ge": 0,
                                                                            "allow_inf_nan": False,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "gpuPortionRequest",
                                                            },
                                                            "gpu_portion_limit": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "float",
                                                                            "ge": 0,
                                                                            "allow_inf_nan": False,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "gpuPortionLimit",
                                                            },
                                                            "gpu_memory_request": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "union",
                                                                            "choices": [
                                                                                {
                                                                                    "type": "str",
                                                                                    "max_length": 40,
                                                                                    "pattern": "^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$",
                                                                                },
                                                                                {"type": "int", "ge": 0},
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "gpuMemoryRequest",
                                                            },
                                                            "gpu_memory_limit": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "union",
                                                                            "choices": [
                                                                                {
                                                                                    "type": "str",
                                                                                    "max_length": 40,
                                                                                    "pattern": "^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$",
                                                                                },
                                                                                {"type": "int", "ge": 0},
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "gpuMemoryLimit",
                                                            },
                                                            "mig_profile": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "str",
                                                                            "pattern": "^[1-9]g\\.[0-9]+gb(\\+me)?$",
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "migProfile",
                                                            },
                                                            "large_shm_request": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {"type": "bool"},
                                                                    "default": False,
                                                                },
                                                                "validation_alias": "largeShmRequest",
                                                            },
                                                            "extended_resources": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("ExtendedResource"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "resource": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "min_length": 1,
                                                                                        },
                                                                                        "validation_alias": "resource",
                                                                                    },
                                                                                    "quantity": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "union",
                                                                                            "choices": [
                                                                                                {
                                                                                                    "type": "str",
                                                                                                    "max_length": 40,
                                                                                                    "pattern": "^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$",
                                                                                                },
                                                                                                {
                                                                                                    "type": "int",
                                                                                                    "ge": 0,
                                                                                                },
                                                                                            ],
                                                                                        },
                                                                                        "validation_alias": "quantity",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.compute.ExtendedResource",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "extendedResources",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.compute.Compute",
                                                },
                                                "default": d(
                                                    "Compute",
                                                    cpu_core_request=None,
                                                    cpu_core_limit=None,
                                                    cpu_memory_request=None,
                                                    cpu_memory_limit=None,
                                                    gpu_devices_request=None,
                                                    gpu_request_type=None,
                                                    gpu_portion_request=None,
                                                    gpu_portion_limit=None,
                                                    gpu_memory_request=None,
                                                    gpu_memory_limit=None,
                                                    mig_profile=None,
                                                    large_shm_request=False,
                                                    extended_resources=(),
                                                ),
                                            },
                                            "validation_alias": "compute",
                                        },
                                        "autoscaling": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("Autoscaling"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "min_replicas": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 0,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "minReplicas",
                                                            },
                                                            "max_replicas": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 1,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "maxReplicas",
                                                            },
                                                            "initial_replicas": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 0,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "initialReplicas",
                                                            },
                                                            "activation_replicas": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 1,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "activationReplicas",
                                                            },
                                                            "metric": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "str",
                                                                            "min_length": 1,
                                                                            "max_length": 200,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "metric",
                                                            },
                                                            "metric_name": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "str",
                                                                            "min_length": 1,
                                                                            "max_length": 200,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "metricName",
                                                            },
                                                            "metric_threshold": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "float",
                                                                            "ge": 0,
                                                                            "allow_inf_nan": False,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "metricThreshold",
                                                            },
                                                            "metric_threshold_percentage": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "float",
                                                                            "ge": 1,
                                                                            "le": 100,
                                                                            "allow_inf_nan": False,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "metricThresholdPercentage",
                                                            },
                                                            "concurrency_hard_limit": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 0,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "concurrencyHardLimit",
                                                            },
                                                            "scale_to_zero_retention_seconds": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "int", "ge": 0, "le": 3600},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "scaleToZeroRetentionSeconds",
                                                            },
                                                            "scale_down_delay_seconds": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "int", "ge": 0, "le": 3600},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "scaleDownDelaySeconds",
                                                            },
                                                            "initialization_timeout_seconds": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 1,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "initializationTimeoutSeconds",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.autoscaling.Autoscaling",
                                                },
                                                "default": d(
                                                    "Autoscaling",
                                                    min_replicas=None,
                                                    max_replicas=None,
                                                    initial_replicas=None,
                                                    activation_replicas=None,
                                                    metric=None,
                                                    metric_name=None,
                                                    metric_threshold=None,
                                                    metric_threshold_percentage=None,
                                                    concurrency_hard_limit=None,
                                                    scale_to_zero_retention_seconds=None,
                                                    scale_down_delay_seconds=None,
                                                    initialization_timeout_seconds=None,
                                                ),
                                            },
                                            "validation_alias": "autoscaling",
                                        },
                                        "serving_port": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("ServingPort"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "container": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "int", "ge": 1, "le": 65535},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "container",
                                                            },
                                                            "protocol": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "literal",
                                                                            "expected": ["http", "grpc"],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "protocol",
                                                            },
                                                            "authorization_type": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "literal",
                                                                            "expected": [
                                                                                "public",
                                                                                "authenticatedUsers",
                                                                                "authorizedUsers",
                                                                                "authorizedGroups",
                                                                                "authorizedUsersOrGroups",
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "authorizationType",
                                                            },
                                                            "authorized_users": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "str",
                                                                            "min_length": 1,
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "authorizedUsers",
                                                            },
                                                            "authorized_groups": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "str",
                                                                            "min_length": 1,
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "authorizedGroups",
                                                            },
                                                            "cluster_local_access_only": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {"type": "bool"},
                                                                    "default": False,
                                                                },
                                                                "validation_alias": "clusterLocalAccessOnly",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.serving.ServingPort",
                                                },
                                                "default": d(
                                                    "ServingPort",
                                                    container=None,
                                                    protocol=None,
                                                    authorization_type=None,
                                                    authorized_users=(),
                                                    authorized_groups=(),
                                                    cluster_local_access_only=False,
                                                ),
                                            },
                                            "validation_alias": "servingPort",
                                        },
                                        "serving_configuration": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("ServingConfiguration"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "initialization_timeout_seconds": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 1,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "initializationTimeoutSeconds",
                                                            },
                                                            "request_timeout_seconds": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 1,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "requestTimeoutSeconds",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.serving.ServingConfiguration",
                                                },
                                                "default": d(
                                                    "ServingConfiguration",
                                                    initialization_timeout_seconds=None,
                                                    request_timeout_seconds=None,
                                                ),
                                            },
                                            "validation_alias": "servingConfiguration",
                                        },
                                        "slo": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "model",
                                                        "cls": c("Slo"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "mean_latency_milliseconds": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "float",
                                                                                "gt": 0,
                                                                                "allow_inf_nan": False,
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "meanLatencyMilliseconds",
                                                                },
                                                                "p95_latency_milliseconds": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "float",
                                                                                "gt": 0,
                                                                                "allow_inf_nan": False,
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "p95LatencyMilliseconds",
                                                                },
                                                                "uptime_percent": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "float",
                                                                                "gt": 0,
                                                                                "le": 100,
                                                                                "allow_inf_nan": False,
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "uptimePercent",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.serving.Slo",
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "slo",
                                        },
                                        "traffic": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("Traffic"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "canary_percent": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "int", "ge": 0, "le": 100},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "canaryPercent",
                                                            },
                                                            "stable_revision": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "str",
                                                                            "max_length": 253,
                                                                            "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "stableRevision",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.serving.Traffic",
                                                },
                                                "default": d("Traffic", canary_percent=None, stable_revision=None),
                                            },
                                            "validation_alias": "traffic",
                                        },
                                        "priority_class": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {"type": "str", "min_length": 1, "max_length": 253},
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "priorityClass",
                                        },
                                        "preemptibility": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "literal",
                                                        "expected": [
                                                            "preemptible",
                                                            "non-preemptible",
                                                            "semi-preemptible",
                                                        ],
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "preemptibility",
                                        },
                                        "node_pools": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {"type": "str", "min_length": 1},
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "nodePools",
                                        },
                                        "node_type": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {"type": "str", "min_length": 1},
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "nodeType",
                                        },
                                        "node_affinity_required": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "model",
                                                        "cls": c("NodeAffinity"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "node_selector_terms": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("NodeSelectorTerm"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "match_expressions": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "list",
                                                                                            "items_schema": {
                                                                                                "type": "model",
                                                                                                "cls": c(
                                                                                                    "MatchExpression"
                                                                                                ),
                                                                                                "schema": {
                                                                                                    "type": "model-fields",
                                                                                                    "fields": {
                                                                                                        "key": {
                                                                                                            "type": "model-field",
                                                                                                            "schema": {
                                                                                                                "type": "str",
                                                                                                                "min_length": 1,
                                                                                                            },
                                                                                                            "validation_alias": "key",
                                                                                                        },
                                                                                                        "operator": {
                                                                                                            "type": "model-field",
                                                                                                            "schema": {
                                                                                                                "type": "literal",
                                                                                                                "expected": [
                                                                                                                    "In",
                                                                                                                    "NotIn",
                                                                                                                    "Exists",
                                                                                                                    "DoesNotExist",
                                                                                                                    "Gt",
                                                                                                                    "Lt",
                                                                                                                ],
                                                                                                            },
                                                                                                            "validation_alias": "operator",
                                                                                                        },
                                                                                                        "values": {
                                                                                                            "type": "model-field",
                                                                                                            "schema": {
                                                                                                                "type": "default",
                                                                                                                "schema": {
                                                                                                                    "type": "list",
                                                                                                                    "items_schema": {
                                                                                                                        "type": "str"
                                                                                                                    },
                                                                                                                },
                                                                                                                "default": (),
                                                                                                            },
                                                                                                            "validation_alias": "values",
                                                                                                        },
                                                                                                    },
                                                                                                },
                                                                                                "config": {
                                                                                                    "strict": True,
                                                                                                    "extra_fields_behavior": "forbid",
                                                                                                },
                                                                                                "ref": "ebbtide.spec.scheduling.MatchExpression",
                                                                                            },
                                                                                            "min_length": 1,
                                                                                        },
                                                                                        "validation_alias": "matchExpressions",
                                                                                    }
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.scheduling.NodeSelectorTerm",
                                                                        },
                                                                        "min_length": 1,
                                                                    },
                                                                    "validation_alias": "nodeSelectorTerms",
                                                                }
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.scheduling.NodeAffinity",
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "nodeAffinityRequired",
                                        },
                                        "pod_affinity": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "definition-ref",
                                                        "schema_ref": "ebbtide.spec.scheduling.PodAffinity",
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "podAffinity",
                                        },
                                        "pod_anti_affinity": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "definition-ref",
                                                        "schema_ref": "ebbtide.spec.scheduling.PodAffinity",
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "podAntiAffinity",
                                        },
                                        "tolerations": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "model",
                                                        "cls": c("Toleration"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "name",
                                                                },
                                                                "key": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "key",
                                                                },
                                                                "operator": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "literal",
                                                                                "expected": ["Equal", "Exists"],
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "operator",
                                                                },
                                                                "value": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "value",
                                                                },
                                                                "effect": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "literal",
                                                                                "expected": [
                                                                                    "NoSchedule",
                                                                                    "NoExecute",
                                                                                    "PreferNoSchedule",
                                                                                    "Any",
                                                                                ],
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "effect",
                                                                },
                                                                "seconds": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "int", "ge": 1},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "seconds",
                                                                },
                                                                "exclude": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {"type": "bool"},
                                                                        "default": False,
                                                                    },
                                                                    "validation_alias": "exclude",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.scheduling.Toleration",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "tolerations",
                                        },
                                        "storage": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("Storage"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "config_map_volume": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("ConfigMapVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "config_map": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 253,
                                                                                            "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                                        },
                                                                                        "validation_alias": "configMap",
                                                                                    },
                                                                                    "mount_path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "mountPath",
                                                                                    },
                                                                                    "sub_path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "subPath",
                                                                                    },
                                                                                    "default_mode": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "pattern": "^0[0-7]{3}$",
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "defaultMode",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.ConfigMapVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "configMapVolume",
                                                            },
                                                            "secret_volume": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("SecretVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "secret": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 253,
                                                                                            "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                                        },
                                                                                        "validation_alias": "secret",
                                                                                    },
                                                                                    "mount_path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "mountPath",
                                                                                    },
                                                                                    "default_mode": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "pattern": "^0[0-7]{3}$",
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "defaultMode",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.SecretVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "secretVolume",
                                                            },
                                                            "empty_dir_volume": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("EmptyDirVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "path",
                                                                                    },
                                                                                    "medium": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "literal",
                                                                                                    "expected": [
                                                                                                        "Memory",
                                                                                                        "",
                                                                                                    ],
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "medium",
                                                                                    },
                                                                                    "size_limit": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "union",
                                                                                                    "choices": [
                                                                                                        {
                                                                                                            "type": "str",
                                                                                                            "max_length": 40,
                                                                                                            "pattern": "^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$",
                                                                                                        },
                                                                                                        {
                                                                                                            "type": "int",
                                                                                                            "ge": 0,
                                                                                                        },
                                                                                                    ],
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "sizeLimit",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.EmptyDirVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "emptyDirVolume",
                                                            },
                                                            "pvc": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("ClaimVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "path",
                                                                                    },
                                                                                    "existing_pvc": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "existingPvc",
                                                                                    },
                                                                                    "claim_name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "max_length": 253,
                                                                                                    "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "claimName",
                                                                                    },
                                                                                    "read_only": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "readOnly",
                                                                                    },
                                                                                    "ephemeral": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "ephemeral",
                                                                                    },
                                                                                    "claim_info": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "model",
                                                                                                    "cls": c(
                                                                                                        "ClaimInfo"
                                                                                                    ),
                                                                                                    "schema": {
                                                                                                        "type": "model-fields",
                                                                                                        "fields": {
                                                                                                            "size": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "union",
                                                                                                                            "choices": [
                                                                                                                                {
                                                                                                                                    "type": "str",
                                                                                                                                    "max_length": 40,
                                                                                                                                    "pattern": "^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$",
                                                                                                                                },
                                                                                                                                {
                                                                                                                                    "type": "int",
                                                                                                                                    "ge": 0,
                                                                                                                                },
                                                                                                                            ],
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "size",
                                                                                                            },
                                                                                                            "storage_class": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "str",
                                                                                                                            "max_length": 253,
                                                                                                                            "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "storageClass",
                                                                                                            },
                                                                                                            "access_modes": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "model",
                                                                                                                            "cls": c(
                                                                                                                                "AccessModes"
                                                                                                                            ),
                                                                                                                            "schema": {
                                                                                                                                "type": "model-fields",
                                                                                                                                "fields": {
                                                                                                                                    "read_write_once": {
                                                                                                                                        "type": "model-field",
                                                                                                                                        "schema": {
                                                                                                                                            "type": "default",
                                                                                                                                            "schema": {
                                                                                                                                                "type": "bool"
                                                                                                                                            },
                                                                                                                                            "default": True,
                                                                                                                                        },
                                                                                                                                        "validation_alias": "readWriteOnce",
                                                                                                                                    },
                                                                                                                                    "read_only_many": {
                                                                                                                                        "type": "model-field",
                                                                                                                                        "schema": {
                                                                                                                                            "type": "default",
                                                                                                                                            "schema": {
                                                                                                                                                "type": "bool"
                                                                                                                                            },
                                                                                                                                            "default": False,
                                                                                                                                        },
                                                                                                                                        "validation_alias": "readOnlyMany",
                                                                                                                                    },
                                                                                                                                    "read_write_many": {
                                                                                                                                        "type": "model-field",
                                                                                                                                        "schema": {
                                                                                                                                            "type": "default",
                                                                                                                                            "schema": {
                                                                                                                                                "type": "bool"
                                                                                                                                            },
                                                                                                                                            "default": False,
                                                                                                                                        },
                                                                                                                                        "validation_alias": "readWriteMany",
                                                                                                                                    },
                                                                                                                                },
                                                                                                                            },
                                                                                                                            "config": {
                                                                                                                                "strict": True,
                                                                                                                                "extra_fields_behavior": "forbid",
                                                                                                                            },
                                                                                                                            "ref": "ebbtide.spec.storage.AccessModes",
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "accessModes",
                                                                                                            },
                                                                                                            "volume_mode": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "literal",
                                                                                                                            "expected": [
                                                                                                                                "Filesystem",
                                                                                                                                "Block",
                                                                                                                            ],
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "volumeMode",
                                                                                                            },
                                                                                                            "added_attr_values": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "list",
                                                                                                                        "items_schema": {
                                                                                                                            "type": "dict",
                                                                                                                            "keys_schema": {
                                                                                                                                "type": "str"
                                                                                                                            },
                                                                                                                            "values_schema": {
                                                                                                                                "type": "str"
                                                                                                                            },
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": (),
                                                                                                                },
                                                                                                                "validation_alias": "addedAttrValues",
                                                                                                            },
                                                                                                        },
                                                                                                    },
                                                                                                    "config": {
                                                                                                        "strict": True,
                                                                                                        "extra_fields_behavior": "forbid",
                                                                                                    },
                                                                                                    "ref": "ebbtide.spec.storage.ClaimInfo",
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "claimInfo",
                                                                                    },
                                                                                    "data_sharing": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "dataSharing",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.ClaimVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "pvc",
                                                            },
                                                            "host_path": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("HostPathVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "path",
                                                                                    },
                                                                                    "mount_path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "mountPath",
                                                                                    },
                                                                                    "read_only": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": True,
                                                                                        },
                                                                                        "validation_alias": "readOnly",
                                                                                    },
                                                                                    "mount_propagation": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "literal",
                                                                                                    "expected": [
                                                                                                        "None",
                                                                                                        "HostToContainer",
                                                                                                    ],
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "mountPropagation",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.HostPathVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "hostPath",
                                                            },
                                                            "nfs": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("NfsVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "server": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "min_length": 1,
                                                                                        },
                                                                                        "validation_alias": "server",
                                                                                    },
                                                                                    "path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "path",
                                                                                    },
                                                                                    "mount_path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "max_length": 4096,
                                                                                            "pattern": "^/",
                                                                                        },
                                                                                        "validation_alias": "mountPath",
                                                                                    },
                                                                                    "read_only": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": True,
                                                                                        },
                                                                                        "validation_alias": "readOnly",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.NfsVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "nfs",
                                                            },
                                                            "git": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("GitVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "repository": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "repository",
                                                                                    },
                                                                                    "branch": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "branch",
                                                                                    },
                                                                                    "revision": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "revision",
                                                                                    },
                                                                                    "path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "path",
                                                                                    },
                                                                                    "password_secret": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "passwordSecret",
                                                                                    },
                                                                                    "secret_key_of_user": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "secretKeyOfUser",
                                                                                    },
                                                                                    "secret_key_of_password": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "secretKeyOfPassword",
                                                                                    },
                                                                                    "secret_ref": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "model",
                                                                                                    "cls": c(
                                                                                                        "GitSecret"
                                                                                                    ),
                                                                                                    "schema": {
                                                                                                        "type": "model-fields",
                                                                                                        "fields": {
                                                                                                            "name": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "str",
                                                                                                                            "min_length": 1,
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "name",
                                                                                                            },
                                                                                                            "authentication_method": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "literal",
                                                                                                                            "expected": [
                                                                                                                                "password",
                                                                                                                                "ssh-key",
                                                                                                                            ],
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "authenticationMethod",
                                                                                                            },
                                                                                                            "secret_key_of_user": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "str",
                                                                                                                            "min_length": 1,
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "secretKeyOfUser",
                                                                                                            },
                                                                                                            "secret_key_of_password": {
                                                                                                                "type": "model-field",
                                                                                                                "schema": {
                                                                                                                    "type": "default",
                                                                                                                    "schema": {
                                                                                                                        "type": "nullable",
                                                                                                                        "schema": {
                                                                                                                            "type": "str",
                                                                                                                            "min_length": 1,
                                                                                                                        },
                                                                                                                    },
                                                                                                                    "default": None,
                                                                                                                },
                                                                                                                "validation_alias": "secretKeyOfPassword",
                                                                                                            },
                                                                                                        },
                                                                                                    },
                                                                                                    "config": {
                                                                                                        "strict": True,
                                                                                                        "extra_fields_behavior": "forbid",
                                                                                                    },
                                                                                                    "ref": "ebbtide.spec.storage.GitSecret",
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "secretRef",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.GitVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "git",
                                                            },
                                                            "data_volume": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "model",
                                                                            "cls": c("DataVolume"),
                                                                            "schema": {
                                                                                "type": "model-fields",
                                                                                "fields": {
                                                                                    "name": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str",
                                                                                                    "min_length": 1,
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "name",
                                                                                    },
                                                                                    "exclude": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {"type": "bool"},
                                                                                            "default": False,
                                                                                        },
                                                                                        "validation_alias": "exclude",
                                                                                    },
                                                                                    "id": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str"
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "id",
                                                                                    },
                                                                                    "mount_path": {
                                                                                        "type": "model-field",
                                                                                        "schema": {
                                                                                            "type": "default",
                                                                                            "schema": {
                                                                                                "type": "nullable",
                                                                                                "schema": {
                                                                                                    "type": "str"
                                                                                                },
                                                                                            },
                                                                                            "default": None,
                                                                                        },
                                                                                        "validation_alias": "mountPath",
                                                                                    },
                                                                                },
                                                                            },
                                                                            "config": {
                                                                                "strict": True,
                                                                                "extra_fields_behavior": "forbid",
                                                                            },
                                                                            "ref": "ebbtide.spec.storage.DataVolume",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "dataVolume",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.storage.Storage",
                                                },
                                                "default": d(
                                                    "Storage",
                                                    config_map_volume=(),
                                                    secret_volume=(),
                                                    empty_dir_volume=(),
                                                    pvc=(),
                                                    host_path=(),
                                                    nfs=(),
                                                    git=(),
                                                    data_volume=(),
                                                ),
                                            },
                                            "validation_alias": "storage",
                                        },
                                        "security": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "model",
                                                    "cls": c("Security"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "capabilities": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "str",
                                                                            "pattern": "^[A-Z_]+$",
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "capabilities",
                                                            },
                                                            "read_only_root_filesystem": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "bool"},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "readOnlyRootFilesystem",
                                                            },
                                                            "run_as_non_root": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "bool"},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "runAsNonRoot",
                                                            },
                                                            "run_as_uid": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 0,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "runAsUid",
                                                            },
                                                            "run_as_gid": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "int",
                                                                            "ge": 0,
                                                                            "le": 2147483647,
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "runAsGid",
                                                            },
                                                            "supplemental_groups": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "str",
                                                                            "pattern": "^\\s*[0-9]+(\\s*[,;]\\s*[0-9]+)*\\s*$",
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "supplementalGroups",
                                                            },
                                                            "seccomp_profile_type": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "literal",
                                                                            "expected": [
                                                                                "RuntimeDefault",
                                                                                "Unconfined",
                                                                                "Localhost",
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "seccompProfileType",
                                                            },
                                                            "uid_gid_source": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {
                                                                            "type": "literal",
                                                                            "expected": [
                                                                                "fromTheImage",
                                                                                "fromIdpToken",
                                                                                "custom",
                                                                            ],
                                                                        },
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "uidGidSource",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.spec.container.Security",
                                                },
                                                "default": d(
                                                    "Security",
                                                    capabilities=(),
                                                    read_only_root_filesystem=None,
                                                    run_as_non_root=None,
                                                    run_as_uid=None,
                                                    run_as_gid=None,
                                                    supplemental_groups=None,
                                                    seccomp_profile_type=None,
                                                    uid_gid_source=None,
                                                ),
                                            },
                                            "validation_alias": "security",
                                        },
                                        "labels": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "definition-ref",
                                                        "schema_ref": "ebbtide.spec.scalars.Named",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "labels",
                                        },
                                        "annotations": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "definition-ref",
                                                        "schema_ref": "ebbtide.spec.scalars.Named",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "annotations",
                                        },
                                        "category": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "nullable",
                                                    "schema": {
                                                        "type": "str",
                                                        "max_length": 63,
                                                        "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
                                                    },
                                                },
                                                "default": None,
                                            },
                                            "validation_alias": "category",
                                        },
                                        "exposed_urls": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "model",
                                                        "cls": c("ExposedUrl"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "container": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "int",
                                                                                "ge": 1,
                                                                                "le": 65535,
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "container",
                                                                },
                                                                "url": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str", "min_length": 1},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "url",
                                                                },
                                                                "authorization_type": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "literal",
                                                                                "expected": [
                                                                                    "public",
                                                                                    "authenticatedUsers",
                                                                                    "authorizedUsers",
                                                                                    "authorizedGroups",
                                                                                ],
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "authorizationType",
                                                                },
                                                                "authorized_users": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "list",
                                                                            "items_schema": {
                                                                                "type": "str",
                                                                                "min_length": 1,
                                                                            },
                                                                        },
                                                                        "default": (),
                                                                    },
                                                                    "validation_alias": "authorizedUsers",
                                                                },
                                                                "authorized_groups": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "list",
                                                                            "items_schema": {
                                                                                "type": "str",
                                                                                "min_length": 1,
                                                                            },
                                                                        },
                                                                        "default": (),
                                                                    },
                                                                    "validation_alias": "authorizedGroups",
                                                                },
                                                                "tool_type": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "toolType",
                                                                },
                                                                "tool_name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "toolName",
                                                                },
                                                                "name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str", "min_length": 1},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "name",
                                                                },
                                                                "exclude": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {"type": "bool"},
                                                                        "default": False,
                                                                    },
                                                                    "validation_alias": "exclude",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.serving.ExposedUrl",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "exposedUrls",
                                        },
                                        "ports": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "model",
                                                        "cls": c("ExposedPort"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "container": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "int",
                                                                                "ge": 1,
                                                                                "le": 65535,
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "container",
                                                                },
                                                                "service_type": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {
                                                                                "type": "literal",
                                                                                "expected": [
                                                                                    "LoadBalancer",
                                                                                    "NodePort",
                                                                                    "ClusterIP",
                                                                                ],
                                                                            },
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "serviceType",
                                                                },
                                                                "external": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "int"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "external",
                                                                },
                                                                "tool_type": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "toolType",
                                                                },
                                                                "tool_name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "toolName",
                                                                },
                                                                "name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str", "min_length": 1},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "name",
                                                                },
                                                                "exclude": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {"type": "bool"},
                                                                        "default": False,
                                                                    },
                                                                    "validation_alias": "exclude",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.serving.ExposedPort",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "ports",
                                        },
                                        "related_urls": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "model",
                                                        "cls": c("RelatedUrl"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "url": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "url",
                                                                },
                                                                "type": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "type",
                                                                },
                                                                "name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str"},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "name",
                                                                },
                                                                "exclude": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {"type": "bool"},
                                                                        "default": False,
                                                                    },
                                                                    "validation_alias": "exclude",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.serving.RelatedUrl",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "relatedUrls",
                                        },
                                        "patches": {
                                            "type": "model-field",
                                            "schema": {
                                                "type": "default",
                                                "schema": {
                                                    "type": "list",
                                                    "items_schema": {
                                                        "type": "model",
                                                        "cls": c("Patch"),
                                                        "schema": {
                                                            "type": "model-fields",
                                                            "fields": {
                                                                "kind": {
                                                                    "type": "model-field",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                    "validation_alias": "kind",
                                                                },
                                                                "name": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "default",
                                                                        "schema": {
                                                                            "type": "nullable",
                                                                            "schema": {"type": "str", "min_length": 1},
                                                                        },
                                                                        "default": None,
                                                                    },
                                                                    "validation_alias": "name",
                                                                },
                                                                "patch": {
                                                                    "type": "model-field",
                                                                    "schema": {
                                                                        "type": "dict",
                                                                        "keys_schema": {"type": "str"},
                                                                        "values_schema": {"type": "any"},
                                                                    },
                                                                    "validation_alias": "patch",
                                                                },
                                                            },
                                                        },
                                                        "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                        "ref": "ebbtide.spec.serving.Patch",
                                                    },
                                                },
                                                "default": (),
                                            },
                                            "validation_alias": "patches",
                                        },
                                    },
                                },
                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                "ref": "ebbtide.spec.inference.InferenceSpec",
                            },
                            "validation_alias": "spec",
                        },
                    },
                },
                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                "ref": "ebbtide.spec.inference.Inference",
            },
            "definitions": [
                {
                    "type": "model",
                    "cls": c("KeyOf"),
                    "schema": {
                        "type": "model-fields",
                        "fields": {
                            "name": {
                                "type": "model-field",
                                "schema": {
                                    "type": "str",
                                    "max_length": 253,
                                    "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
                                },
                                "validation_alias": "name",
                            },
                            "key": {
                                "type": "model-field",
                                "schema": {"type": "str", "min_length": 1},
                                "validation_alias": "key",
                            },
                        },
                    },
                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                    "ref": "ebbtide.spec.container.KeyOf",
                },
                {
                    "type": "model",
                    "cls": c("Probe"),
                    "schema": {
                        "type": "model-fields",
                        "fields": {
                            "handler": {
                                "type": "model-field",
                                "schema": {
                                    "type": "model",
                                    "cls": c("Handler"),
                                    "schema": {
                                        "type": "model-fields",
                                        "fields": {
                                            "http_get": {
                                                "type": "model-field",
                                                "schema": {
                                                    "type": "default",
                                                    "schema": {
                                                        "type": "nullable",
                                                        "schema": {
                                                            "type": "model",
                                                            "cls": c("HttpGet"),
                                                            "schema": {
                                                                "type": "model-fields",
                                                                "fields": {
                                                                    "path": {
                                                                        "type": "model-field",
                                                                        "schema": {
                                                                            "type": "default",
                                                                            "schema": {
                                                                                "type": "str",
                                                                                "pattern": "^(/[a-zA-Z0-9\\-_./]*)?$",
                                                                            },
                                                                            "default": "/",
                                                                        },
                                                                        "validation_alias": "path",
                                                                    },
                                                                    "port": {
                                                                        "type": "model-field",
                                                                        "schema": {
                                                                            "type": "default",
                                                                            "schema": {
                                                                                "type": "nullable",
                                                                                "schema": {
                                                                                    "type": "int",
                                                                                    "ge": 1,
                                                                                    "le": 65535,
                                                                                },
                                                                            },
                                                                            "default": None,
                                                                        },
                                                                        "validation_alias": "port",
                                                                    },
                                                                    "host": {
                                                                        "type": "model-field",
                                                                        "schema": {
                                                                            "type": "default",
                                                                            "schema": {
                                                                                "type": "nullable",
                                                                                "schema": {
                                                                                    "type": "str",
                                                                                    "max_length": 253,
                                                                                },
                                                                            },
                                                                            "default": None,
                                                                        },
                                                                        "validation_alias": "host",
                                                                    },
                                                                    "scheme": {
                                                                        "type": "model-field",
                                                                        "schema": {
                                                                            "type": "default",
                                                                            "schema": {
                                                                                "type": "nullable",
                                                                                "schema": {
                                                                                    "type": "literal",
                                                                                    "expected": ["HTTP", "HTTPS"],
                                                                                },
                                                                            },
                                                                            "default": None,
                                                                        },
                                                                        "validation_alias": "scheme",
                                                                    },
                                                                },
                                                            },
                                                            "config": {
                                                                "strict": True,
                                                                "extra_fields_behavior": "forbid",
                                                            },
                                                            "ref": "ebbtide.spec.container.HttpGet",
                                                        },
                                                    },
                                                    "default": None,
                                                },
                                                "validation_alias": "httpGet",
                                            },
                                            "tcp_socket": {
                                                "type": "model-field",
                                                "schema": {
                                                    "type": "default",
                                                    "schema": {
                                                        "type": "nullable",
                                                        "schema": {
                                                            "type": "model",
                                                            "cls": c("TcpSocket"),
                                                            "schema": {
                                                                "type": "model-fields",
                                                                "fields": {
                                                                    "port": {
                                                                        "type": "model-field",
                                                                        "schema": {
                                                                            "type": "default",
                                                                            "schema": {
                                                                                "type": "nullable",
                                                                                "schema": {
                                                                                    "type": "int",
                                                                                    "ge": 1,
                                                                                    "le": 65535,
                                                                                },
                                                                            },
                                                                            "default": None,
                                                                        },
                                                                        "validation_alias": "port",
                                                                    }
                                                                },
                                                            },
                                                            "config": {
                                                                "strict": True,
                                                                "extra_fields_behavior": "forbid",
                                                            },
                                                            "ref": "ebbtide.spec.container.TcpSocket",
                                                        },
                                                    },
                                                    "default": None,
                                                },
                                                "validation_alias": "tcpSocket",
                                            },
                                            "grpc": {
                                                "type": "model-field",
                                                "schema": {
                                                    "type": "default",
                                                    "schema": {
                                                        "type": "nullable",
                                                        "schema": {
                                                            "type": "model",
                                                            "cls": c("Grpc"),
                                                            "schema": {
                                                                "type": "model-fields",
                                                                "fields": {
                                                                    "port": {
                                                                        "type": "model-field",
                                                                        "schema": {
                                                                            "type": "default",
                                                                            "schema": {
                                                                                "type": "nullable",
                                                                                "schema": {
                                                                                    "type": "int",
                                                                                    "ge": 1,
                                                                                    "le": 65535,
                                                                                },
                                                                            },
                                                                            "default": None,
                                                                        },
                                                                        "validation_alias": "port",
                                                                    },
                                                                    "service": {
                                                                        "type": "model-field",
                                                                        "schema": {
                                                                            "type": "default",
                                                                            "schema": {
                                                                                "type": "nullable",
                                                                                "schema": {"type": "str"},
                                                                            },
                                                                            "default": None,
                                                                        },
                                                                        "validation_alias": "service",
                                                                    },
                                                                },
                                                            },
                                                            "config": {
                                                                "strict": True,
                                                                "extra_fields_behavior": "forbid",
                                                            },
                                                            "ref": "ebbtide.spec.container.Grpc",
                                                        },
                                                    },
                                                    "default": None,
                                                },
                                                "validation_alias": "grpc",
                                            },
                                        },
                                    },
                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                    "ref": "ebbtide.spec.container.Handler",
                                },
                                "validation_alias": "handler",
                            },
                            "initial_delay_seconds": {
                                "type": "model-field",
                                "schema": {
                                    "type": "default",
                                    "schema": {
                                        "type": "nullable",
                                        "schema": {"type": "int", "ge": 0, "le": 2147483647},
                                    },
                                    "default": None,
                                },
                                "validation_alias": "initialDelaySeconds",
                            },
                            "period_seconds": {
                                "type": "model-field",
                                "schema": {
                                    "type": "default",
                                    "schema": {
                                        "type": "nullable",
                                        "schema": {"type": "int", "ge": 1, "le": 2147483647},
                                    },
                                    "default": None,
                                },
                                "validation_alias": "periodSeconds",
                            },
                            "timeout_seconds": {
                                "type": "model-field",
                                "schema": {
                                    "type": "default",
                                    "schema": {
                                        "type": "nullable",
                                        "schema": {"type": "int", "ge": 1, "le": 2147483647},
                                    },
                                    "default": None,
                                },
                                "validation_alias": "timeoutSeconds",
                            },
                            "success_threshold": {
                                "type": "model-field",
                                "schema": {
                                    "type": "default",
                                    "schema": {
                                        "type": "nullable",
                                        "schema": {"type": "int", "ge": 1, "le": 2147483647},
                                    },
                                    "default": None,
                                },
                                "validation_alias": "successThreshold",
                            },
                            "failure_threshold": {
                                "type": "model-field",
                                "schema": {
                                    "type": "default",
                                    "schema": {
                                        "type": "nullable",
                                        "schema": {"type": "int", "ge": 1, "le": 2147483647},
                                    },
                                    "default": None,
                                },
                                "validation_alias": "failureThreshold",
                            },
                        },
                    },
                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                    "ref": "ebbtide.spec.container.Probe",
                },
                {
                    "type": "model",
                    "cls": c("PodAffinity"),
                    "schema": {
                        "type": "model-fields",
                        "fields": {
                            "type": {
                                "type": "model-field",
                                "schema": {"type": "literal", "expected": ["Required", "Preferred"]},
                                "validation_alias": "type",
                            },
                            "key": {
                                "type": "model-field",
                                "schema": {"type": "str", "min_length": 1},
                                "validation_alias": "key",
                            },
                        },
                    },
                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                    "ref": "ebbtide.spec.scheduling.PodAffinity",
                },
                {
                    "type": "model",
                    "cls": c("Named"),
                    "schema": {
                        "type": "model-fields",
                        "fields": {
                            "name": {
                                "type": "model-field",
                                "schema": {"type": "str", "min_length": 1, "max_length": 316},
                                "validation_alias": "name",
                            },
                            "value": {
                                "type": "model-field",
                                "schema": {"type": "default", "schema": {"type": "str"}, "default": ""},
                                "validation_alias": "value",
                            },
                            "exclude": {
                                "type": "model-field",
                                "schema": {"type": "default", "schema": {"type": "bool"}, "default": False},
                                "validation_alias": "exclude",
                            },
                        },
                    },
                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                    "ref": "ebbtide.spec.scalars.Named",
                },
            ],
        },
        "Profile": {
            "type": "model",
            "cls": c("Profile"),
            "schema": {
                "type": "model-fields",
                "fields": {
                    "api_version": {
                        "type": "model-field",
                        "schema": {"type": "literal", "expected": ["ebbtide.dev/v1alpha1"]},
                        "validation_alias": "apiVersion",
                    },
                    "kind": {
                        "type": "model-field",
                        "schema": {"type": "literal", "expected": ["Profile"]},
                        "validation_alias": "kind",
                    },
                    "metadata": {
                        "type": "model-field",
                        "schema": {
                            "type": "model",
                            "cls": c("ProfileMetadata"),
                            "schema": {
                                "type": "model-fields",
                                "fields": {
                                    "name": {
                                        "type": "model-field",
                                        "schema": {"type": "str", "min_length": 1, "max_length": 63},
                                        "validation_alias": "name",
                                    },
                                    "annotations": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "nullable",
                                                "schema": {
                                                    "type": "dict",
                                                    "keys_schema": {"type": "str"},
                                                    "values_schema": {"type": "str"},
                                                },
                                            },
                                            "default": None,
                                        },
                                        "validation_alias": "annotations",
                                    },
                                },
                            },
                            "config": {"strict": True, "extra_fields_behavior": "forbid"},
                            "ref": "ebbtide.profile.ProfileMetadata",
                        },
                        "validation_alias": "metadata",
                    },
                    "spec": {
                        "type": "model-field",
                        "schema": {
                            "type": "model",
                            "cls": c("ProfileSpec"),
                            "schema": {
                                "type": "model-fields",
                                "fields": {
                                    "kubernetes": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("Kubernetes"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "version": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "str",
                                                                    "pattern": "^[0-9]+(\\.[0-9]+){1,2}$",
                                                                },
                                                                "default": "1.34",
                                                            },
                                                            "validation_alias": "version",
                                                        },
                                                        "dra": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": False,
                                                            },
                                                            "validation_alias": "dra",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.Kubernetes",
                                            },
                                            "default": d("Kubernetes", version="1.34", dra=False),
                                        },
                                        "validation_alias": "kubernetes",
                                    },
                                    "knative": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("Knative"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "installed": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": True,
                                                            },
                                                            "validation_alias": "installed",
                                                        },
                                                        "version": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "str",
                                                                    "pattern": "^[0-9]+(\\.[0-9]+){1,2}$",
                                                                },
                                                                "default": "1.21",
                                                            },
                                                            "validation_alias": "version",
                                                        },
                                                        "hpa": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": True,
                                                            },
                                                            "validation_alias": "hpa",
                                                        },
                                                        "features": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "str"},
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "features",
                                                        },
                                                        "autoscaler": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "str"},
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "autoscaler",
                                                        },
                                                        "defaults": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "str"},
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "defaults",
                                                        },
                                                        "deployment": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "str"},
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "deployment",
                                                        },
                                                        "observability": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "str"},
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "observability",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.Knative",
                                            },
                                            "default": d(
                                                "Knative",
                                                installed=True,
                                                version="1.21",
                                                hpa=True,
                                                features={},
                                                autoscaler={},
                                                defaults={},
                                                deployment={},
                                                observability={},
                                            ),
                                        },
                                        "validation_alias": "knative",
                                    },
                                    "kserve": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("KServe"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "installed": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": True,
                                                            },
                                                            "validation_alias": "installed",
                                                        },
                                                        "version": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "str",
                                                                    "pattern": "^[0-9]+(\\.[0-9]+){1,2}$",
                                                                },
                                                                "default": "0.20",
                                                            },
                                                            "validation_alias": "version",
                                                        },
                                                        "modes": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "list",
                                                                    "items_schema": {
                                                                        "type": "literal",
                                                                        "expected": ["Knative", "Standard"],
                                                                    },
                                                                },
                                                                "default": ["Knative", "Standard"],
                                                            },
                                                            "validation_alias": "modes",
                                                        },
                                                        "annotation_disallow_list": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "list",
                                                                    "items_schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": (),
                                                            },
                                                            "validation_alias": "annotationDisallowList",
                                                        },
                                                        "runtimes": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "list",
                                                                    "items_schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": (),
                                                            },
                                                            "validation_alias": "runtimes",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.KServe",
                                            },
                                            "default": d(
                                                "KServe",
                                                installed=True,
                                                version="0.20",
                                                modes=["Knative", "Standard"],
                                                annotation_disallow_list=(),
                                                runtimes=(),
                                            ),
                                        },
                                        "validation_alias": "kserve",
                                    },
                                    "metrics": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("Metrics"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "adapter": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "literal",
                                                                    "expected": ["prometheus-adapter", "keda", "none"],
                                                                },
                                                                "default": "prometheus-adapter",
                                                            },
                                                            "validation_alias": "adapter",
                                                        },
                                                        "metrics_server": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": True,
                                                            },
                                                            "validation_alias": "metricsServer",
                                                        },
                                                        "names": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "model",
                                                                    "cls": c("MetricNames"),
                                                                    "schema": {
                                                                        "type": "model-fields",
                                                                        "fields": {
                                                                            "latency": {
                                                                                "type": "model-field",
                                                                                "schema": {
                                                                                    "type": "default",
                                                                                    "schema": {
                                                                                        "type": "str",
                                                                                        "min_length": 1,
                                                                                    },
                                                                                    "default": "request_latency_p95_milliseconds",
                                                                                },
                                                                                "validation_alias": "latency",
                                                                            },
                                                                            "gpu_utilization": {
                                                                                "type": "model-field",
                                                                                "schema": {
                                                                                    "type": "default",
                                                                                    "schema": {
                                                                                        "type": "str",
                                                                                        "min_length": 1,
                                                                                    },
                                                                                    "default": "gpu_utilization_percent",
                                                                                },
                                                                                "validation_alias": "gpuUtilization",
                                                                            },
                                                                            "gpu_utilization_per_container": {
                                                                                "type": "model-field",
                                                                                "schema": {
                                                                                    "type": "default",
                                                                                    "schema": {
                                                                                        "type": "nullable",
                                                                                        "schema": {
                                                                                            "type": "str",
                                                                                            "min_length": 1,
                                                                                        },
                                                                                    },
                                                                                    "default": None,
                                                                                },
                                                                                "validation_alias": "gpuUtilizationPerContainer",
                                                                            },
                                                                        },
                                                                    },
                                                                    "config": {
                                                                        "strict": True,
                                                                        "extra_fields_behavior": "forbid",
                                                                    },
                                                                    "ref": "ebbtide.profile.MetricNames",
                                                                },
                                                                "default": d(
                                                                    "MetricNames",
                                                                    latency="request_latency_p95_milliseconds",
                                                                    gpu_utilization="gpu_utilization_percent",
                                                                    gpu_utilization_per_container=None,
                                                                ),
                                                            },
                                                            "validation_alias": "names",
                                                        },
                                                        "custom": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "list",
                                                                    "items_schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": (),
                                                            },
                                                            "validation_alias": "custom",
                                                        },
                                                        "prometheus": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "str", "min_length": 1},
                                                                "default": "http://prometheus-server.monitoring.svc:9090",
                                                            },
                                                            "validation_alias": "prometheus",
                                                        },
                                                        "queries": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "str"},
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "queries",
                                                        },
                                                        "gateway_latency": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "nullable",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": None,
                                                            },
                                                            "validation_alias": "gatewayLatency",
                                                        },
                                                        "standard_latency": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "nullable",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": None,
                                                            },
                                                            "validation_alias": "standardLatency",
                                                        },
                                                        "standard_concurrency": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "nullable",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": None,
                                                            },
                                                            "validation_alias": "standardConcurrency",
                                                        },
                                                        "standard_throughput": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "nullable",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": None,
                                                            },
                                                            "validation_alias": "standardThroughput",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.Metrics",
                                            },
                                            "default": d(
                                                "Metrics",
                                                adapter="prometheus-adapter",
                                                metrics_server=True,
                                                names=d(
                                                    "MetricNames",
                                                    latency="request_latency_p95_milliseconds",
                                                    gpu_utilization="gpu_utilization_percent",
                                                    gpu_utilization_per_container=None,
                                                ),
                                                custom=(),
                                                prometheus="http://prometheus-server.monitoring.svc:9090",
                                                queries={},
                                                gateway_latency=None,
                                                standard_latency=None,
                                                standard_concurrency=None,
                                                standard_throughput=None,
                                            ),
                                        },
                                        "validation_alias": "metrics",
                                    },
                                    "node_pools": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "list",
                                                "items_schema": {
                                                    "type": "model",
                                                    "cls": c("NodePool"),
                                                    "schema": {
                                                        "type": "model-fields",
                                                        "fields": {
                                                            "name": {
                                                                "type": "model-field",
                                                                "schema": {"type": "str", "min_length": 1},
                                                                "validation_alias": "name",
                                                            },
                                                            "selector": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "dict",
                                                                        "keys_schema": {"type": "str"},
                                                                        "values_schema": {"type": "str"},
                                                                    },
                                                                    "default": {},
                                                                },
                                                                "validation_alias": "selector",
                                                            },
                                                            "product": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "str", "min_length": 1},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "product",
                                                            },
                                                            "gpu_memory_mebibytes": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "int", "ge": 1},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "gpuMemoryMebibytes",
                                                            },
                                                            "devices": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "int",
                                                                        "ge": 0,
                                                                        "le": 2147483647,
                                                                    },
                                                                    "default": 0,
                                                                },
                                                                "validation_alias": "devices",
                                                            },
                                                            "nodes": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "int",
                                                                        "ge": 0,
                                                                        "le": 2147483647,
                                                                    },
                                                                    "default": 0,
                                                                },
                                                                "validation_alias": "nodes",
                                                            },
                                                            "backend": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "literal",
                                                                        "expected": [
                                                                            "devices",
                                                                            "kai",
                                                                            "hami",
                                                                            "mig",
                                                                            "time-slicing",
                                                                            "mps",
                                                                            "dra",
                                                                        ],
                                                                    },
                                                                    "default": "devices",
                                                                },
                                                                "validation_alias": "backend",
                                                            },
                                                            "replicas": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "int", "ge": 2},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "replicas",
                                                            },
                                                            "resource": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "nullable",
                                                                        "schema": {"type": "str", "min_length": 1},
                                                                    },
                                                                    "default": None,
                                                                },
                                                                "validation_alias": "resource",
                                                            },
                                                            "mig_strategy": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "literal",
                                                                        "expected": ["single", "mixed"],
                                                                    },
                                                                    "default": "mixed",
                                                                },
                                                                "validation_alias": "migStrategy",
                                                            },
                                                            "mig_profiles": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "str",
                                                                            "min_length": 1,
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "migProfiles",
                                                            },
                                                            "device_class": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                    "default": "gpu.nvidia.com",
                                                                },
                                                                "validation_alias": "deviceClass",
                                                            },
                                                            "consumable_capacity": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {"type": "bool"},
                                                                    "default": False,
                                                                },
                                                                "validation_alias": "consumableCapacity",
                                                            },
                                                            "tolerations": {
                                                                "type": "model-field",
                                                                "schema": {
                                                                    "type": "default",
                                                                    "schema": {
                                                                        "type": "list",
                                                                        "items_schema": {
                                                                            "type": "dict",
                                                                            "keys_schema": {"type": "str"},
                                                                            "values_schema": {"type": "any"},
                                                                        },
                                                                    },
                                                                    "default": (),
                                                                },
                                                                "validation_alias": "tolerations",
                                                            },
                                                        },
                                                    },
                                                    "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                    "ref": "ebbtide.profile.NodePool",
                                                },
                                            },
                                            "default": (),
                                        },
                                        "validation_alias": "nodePools",
                                    },
                                    "scheduling": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("Scheduling"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "scheduler": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "str", "min_length": 1},
                                                                "default": "default-scheduler",
                                                            },
                                                            "validation_alias": "scheduler",
                                                        },
                                                        "kai": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "model",
                                                                    "cls": c("Kai"),
                                                                    "schema": {
                                                                        "type": "model-fields",
                                                                        "fields": {
                                                                            "version": {
                                                                                "type": "model-field",
                                                                                "schema": {
                                                                                    "type": "default",
                                                                                    "schema": {
                                                                                        "type": "str",
                                                                                        "pattern": "^[0-9]+(\\.[0-9]+){1,2}$",
                                                                                    },
                                                                                    "default": "0.17",
                                                                                },
                                                                                "validation_alias": "version",
                                                                            },
                                                                            "gang_schedule_knative": {
                                                                                "type": "model-field",
                                                                                "schema": {
                                                                                    "type": "default",
                                                                                    "schema": {"type": "bool"},
                                                                                    "default": False,
                                                                                },
                                                                                "validation_alias": "gangScheduleKnative",
                                                                            },
                                                                            "sharing_mode": {
                                                                                "type": "model-field",
                                                                                "schema": {
                                                                                    "type": "default",
                                                                                    "schema": {
                                                                                        "type": "literal",
                                                                                        "expected": [
                                                                                            "Disabled",
                                                                                            "NonMemoryEnforced",
                                                                                            "HamiCore",
                                                                                            "NvFractions",
                                                                                        ],
                                                                                    },
                                                                                    "default": "NonMemoryEnforced",
                                                                                },
                                                                                "validation_alias": "sharingMode",
                                                                            },
                                                                        },
                                                                    },
                                                                    "config": {
                                                                        "strict": True,
                                                                        "extra_fields_behavior": "forbid",
                                                                    },
                                                                    "ref": "ebbtide.profile.Kai",
                                                                },
                                                                "default": d(
                                                                    "Kai",
                                                                    version="0.17",
                                                                    gang_schedule_knative=False,
                                                                    sharing_mode="NonMemoryEnforced",
                                                                ),
                                                            },
                                                            "validation_alias": "kai",
                                                        },
                                                        "classes": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "int"},
                                                                },
                                                                "default": {
                                                                    "train": 50,
                                                                    "build-preemptible": 75,
                                                                    "build": 100,
                                                                    "inference": 125,
                                                                },
                                                            },
                                                            "validation_alias": "classes",
                                                        },
                                                        "classes_owner": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "literal",
                                                                    "expected": ["ebbtide", "kai", "cluster"],
                                                                },
                                                                "default": "ebbtide",
                                                            },
                                                            "validation_alias": "classesOwner",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.Scheduling",
                                            },
                                            "default": d(
                                                "Scheduling",
                                                scheduler="default-scheduler",
                                                kai=d(
                                                    "Kai",
                                                    version="0.17",
                                                    gang_schedule_knative=False,
                                                    sharing_mode="NonMemoryEnforced",
                                                ),
                                                classes={
                                                    "train": 50,
                                                    "build-preemptible": 75,
                                                    "build": 100,
                                                    "inference": 125,
                                                },
                                                classes_owner="ebbtide",
                                            ),
                                        },
                                        "validation_alias": "scheduling",
                                    },
                                    "projects": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("Projects"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "namespace": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "str", "pattern": "\\{project\\}"},
                                                                "default": "runai-{project}",
                                                            },
                                                            "validation_alias": "namespace",
                                                        },
                                                        "default_namespace": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "str", "min_length": 1},
                                                                "default": "default",
                                                            },
                                                            "validation_alias": "defaultNamespace",
                                                        },
                                                        "manage": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": True,
                                                            },
                                                            "validation_alias": "manage",
                                                        },
                                                        "quota": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "literal",
                                                                    "expected": ["none", "resourcequota", "kai"],
                                                                },
                                                                "default": "resourcequota",
                                                            },
                                                            "validation_alias": "quota",
                                                        },
                                                        "parent_queue": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "str", "min_length": 1},
                                                                "default": "default",
                                                            },
                                                            "validation_alias": "parentQueue",
                                                        },
                                                        "department": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "nullable",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": None,
                                                            },
                                                            "validation_alias": "department",
                                                        },
                                                        "known": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {
                                                                        "type": "model",
                                                                        "cls": c("Project"),
                                                                        "schema": {
                                                                            "type": "model-fields",
                                                                            "fields": {
                                                                                "id": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {
                                                                                            "type": "nullable",
                                                                                            "schema": {
                                                                                                "type": "str",
                                                                                                "min_length": 1,
                                                                                            },
                                                                                        },
                                                                                        "default": None,
                                                                                    },
                                                                                    "validation_alias": "id",
                                                                                },
                                                                                "gpus": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {
                                                                                            "type": "nullable",
                                                                                            "schema": {
                                                                                                "type": "float",
                                                                                                "ge": 0,
                                                                                            },
                                                                                        },
                                                                                        "default": None,
                                                                                    },
                                                                                    "validation_alias": "gpus",
                                                                                },
                                                                                "cpu": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {
                                                                                            "type": "nullable",
                                                                                            "schema": {
                                                                                                "type": "float",
                                                                                                "ge": 0,
                                                                                            },
                                                                                        },
                                                                                        "default": None,
                                                                                    },
                                                                                    "validation_alias": "cpu",
                                                                                },
                                                                                "memory": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {
                                                                                            "type": "nullable",
                                                                                            "schema": {
                                                                                                "type": "str",
                                                                                                "min_length": 1,
                                                                                            },
                                                                                        },
                                                                                        "default": None,
                                                                                    },
                                                                                    "validation_alias": "memory",
                                                                                },
                                                                                "over_quota": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {"type": "bool"},
                                                                                        "default": True,
                                                                                    },
                                                                                    "validation_alias": "overQuota",
                                                                                },
                                                                                "over_quota_weight": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {
                                                                                            "type": "int",
                                                                                            "ge": 0,
                                                                                            "le": 2147483647,
                                                                                        },
                                                                                        "default": 1,
                                                                                    },
                                                                                    "validation_alias": "overQuotaWeight",
                                                                                },
                                                                            },
                                                                        },
                                                                        "config": {
                                                                            "strict": True,
                                                                            "extra_fields_behavior": "forbid",
                                                                        },
                                                                        "ref": "ebbtide.profile.Project",
                                                                    },
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "known",
                                                        },
                                                        "closed": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": False,
                                                            },
                                                            "validation_alias": "closed",
                                                        },
                                                        "labels": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {"type": "str"},
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "labels",
                                                        },
                                                        "pod_security": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "literal",
                                                                    "expected": [
                                                                        "restricted",
                                                                        "baseline",
                                                                        "privileged",
                                                                    ],
                                                                },
                                                                "default": "baseline",
                                                            },
                                                            "validation_alias": "podSecurity",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.Projects",
                                            },
                                            "default": d(
                                                "Projects",
                                                namespace="runai-{project}",
                                                default_namespace="default",
                                                manage=True,
                                                quota="resourcequota",
                                                parent_queue="default",
                                                department=None,
                                                known={},
                                                closed=False,
                                                labels={},
                                                pod_security="baseline",
                                            ),
                                        },
                                        "validation_alias": "projects",
                                    },
                                    "access": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("Access"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "gateway": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "nullable",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": None,
                                                            },
                                                            "validation_alias": "gateway",
                                                        },
                                                        "enforces": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "dict",
                                                                    "keys_schema": {"type": "str"},
                                                                    "values_schema": {
                                                                        "type": "model",
                                                                        "cls": c("Enforcer"),
                                                                        "schema": {
                                                                            "type": "model-fields",
                                                                            "fields": {
                                                                                "labels": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {
                                                                                            "type": "dict",
                                                                                            "keys_schema": {
                                                                                                "type": "str"
                                                                                            },
                                                                                            "values_schema": {
                                                                                                "type": "str"
                                                                                            },
                                                                                        },
                                                                                        "default": {},
                                                                                    },
                                                                                    "validation_alias": "labels",
                                                                                },
                                                                                "annotations": {
                                                                                    "type": "model-field",
                                                                                    "schema": {
                                                                                        "type": "default",
                                                                                        "schema": {
                                                                                            "type": "dict",
                                                                                            "keys_schema": {
                                                                                                "type": "str"
                                                                                            },
                                                                                            "values_schema": {
                                                                                                "type": "str"
                                                                                            },
                                                                                        },
                                                                                        "default": {},
                                                                                    },
                                                                                    "validation_alias": "annotations",
                                                                                },
                                                                            },
                                                                        },
                                                                        "config": {
                                                                            "strict": True,
                                                                            "extra_fields_behavior": "forbid",
                                                                        },
                                                                        "ref": "ebbtide.profile.Enforcer",
                                                                    },
                                                                },
                                                                "default": {},
                                                            },
                                                            "validation_alias": "enforces",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.Access",
                                            },
                                            "default": d("Access", gateway=None, enforces={}),
                                        },
                                        "validation_alias": "access",
                                    },
                                    "pods": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {
                                                "type": "model",
                                                "cls": c("Pods"),
                                                "schema": {
                                                    "type": "model-fields",
                                                    "fields": {
                                                        "run_as_non_root": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {"type": "bool"},
                                                                "default": False,
                                                            },
                                                            "validation_alias": "runAsNonRoot",
                                                        },
                                                        "runtime_class": {
                                                            "type": "model-field",
                                                            "schema": {
                                                                "type": "default",
                                                                "schema": {
                                                                    "type": "nullable",
                                                                    "schema": {"type": "str", "min_length": 1},
                                                                },
                                                                "default": None,
                                                            },
                                                            "validation_alias": "runtimeClass",
                                                        },
                                                    },
                                                },
                                                "config": {"strict": True, "extra_fields_behavior": "forbid"},
                                                "ref": "ebbtide.profile.Pods",
                                            },
                                            "default": d("Pods", run_as_non_root=False, runtime_class=None),
                                        },
                                        "validation_alias": "pods",
                                    },
                                    "domain": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {"type": "str", "min_length": 1},
                                            "default": "example.com",
                                        },
                                        "validation_alias": "domain",
                                    },
                                    "cluster_id": {
                                        "type": "model-field",
                                        "schema": {
                                            "type": "default",
                                            "schema": {"type": "nullable", "schema": {"type": "str", "min_length": 1}},
                                            "default": None,
                                        },
                                        "validation_alias": "clusterId",
                                    },
                                },
                            },
                            "config": {"strict": True, "extra_fields_behavior": "forbid"},
                            "ref": "ebbtide.profile.ProfileSpec",
                        },
                        "validation_alias": "spec",
                    },
                },
            },
            "config": {"strict": True, "extra_fields_behavior": "forbid"},
            "ref": "ebbtide.profile.Profile",
        },
    }
