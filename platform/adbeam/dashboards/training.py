"""The training dashboard: is it learning, how fast, and what does it cost."""

from __future__ import annotations

from adbeam.dashboards.panels import Dashboard, Panel, Query, Row

_LEARNING = Row(
    "Learning",
    (
        Panel(
            "Loss",
            "VSL loss, mean over a reporting interval.",
            (Query("ray_adbeam_train_loss", "loss"),),
            needs="training",
        ),
        Panel(
            "Gradient norm",
            "Before clipping. A jump precedes a diverging loss.",
            (Query("ray_adbeam_train_gradient_norm", "norm"),),
            needs="training",
        ),
        Panel(
            "Learning rate",
            "The schedule, as applied.",
            (Query("ray_adbeam_train_learning_rate", "learning rate"),),
            needs="training",
        ),
    ),
)

_RAILS = Row(
    "Learning from lists",
    (
        Panel(
            "Divergence from the reference",
            "KL of the model from the one that generated the lists, nats; training.rails.max_kl_nats stops the run.",
            (Query("ray_adbeam_train_list_kl", "KL"),),
            needs="training",
        ),
        Panel(
            "Order of the lists",
            "NDCG of the model's order of candidates by reward.",
            (Query("ray_adbeam_train_list_ndcg", "NDCG"),),
            needs="training",
        ),
        Panel(
            "Rails",
            "Entropy of the first level, and of SIDs drawn freely: those of no ad, and repeats.",
            (
                Query("ray_adbeam_train_entropy_share", "entropy"),
                Query("ray_adbeam_train_invalid_share", "invalid"),
                Query("ray_adbeam_train_collapsed_share", "collapsed"),
            ),
            unit="percentunit",
            needs="training",
        ),
    ),
)

_SPEED = Row(
    "Speed",
    (
        Panel(
            "Requests per second",
            "Training requests, all workers.",
            (Query("ray_adbeam_train_requests_per_second", "requests"),),
            unit="reqps",
            needs="training",
        ),
        Panel(
            "Optimiser steps",
            "Steps done. A flat line while the job runs is a stalled input or a hung collective.",
            (Query("ray_adbeam_train_step", "step"),),
            needs="training",
        ),
        Panel(
            "Rows out of Ray Data",
            "Rows that each dataset has put out so far, where a step streams through Ray Data.",
            (Query("sum by (dataset) (ray_data_output_rows)", "{{dataset}}"),),
            needs="training",
        ),
    ),
)

_RESOURCES = Row(
    "Resources",
    (
        Panel(
            "Memory of the workers",
            "Resident memory of Ray processes by kind; ZeRO stages 1 to 3 show here as less memory a worker.",
            (Query("sum by (Component) (ray_component_rss_bytes)", "{{Component}}"),),
            unit="bytes",
            needs="training",
        ),
        Panel(
            "Object store",
            "Shared memory used by Ray objects.",
            (Query("sum by (instance) (ray_object_store_memory)", "{{instance}}"),),
            unit="bytes",
            needs="training",
        ),
        Panel(
            "Disk",
            "Used disk of the nodes: checkpoints and spilled objects.",
            (Query("ray_node_disk_usage", "{{instance}}"),),
            unit="bytes",
            needs="training",
        ),
        Panel(
            "Resources in use",
            "Logical CPUs and GPUs that tasks and actors hold.",
            (Query('sum by (Name) (ray_resources{State="USED", Name=~"CPU|GPU"})', "{{Name}}"),),
            needs="training",
        ),
        Panel(
            "GPU utilisation",
            "Per cent, by GPU. Empty on nodes without one.",
            (Query("ray_node_gpus_utilization", "{{instance}} {{GpuIndex}}"),),
            unit="percent",
            needs="gpu",
        ),
        Panel(
            "GPU memory",
            "Used memory by GPU. Empty on nodes without one.",
            (Query("ray_node_gram_used * 1048576", "{{instance}} {{GpuIndex}}"),),
            unit="bytes",
            needs="gpu",
        ),
    ),
)

TRAINING = Dashboard(
    "adbeam-training",
    "adbeam training",
    "Loss, speed, ingest and resources of training jobs.",
    (_LEARNING, _RAILS, _SPEED, _RESOURCES),
)
