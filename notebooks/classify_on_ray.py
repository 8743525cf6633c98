"""Classify a folder, or a bucket, with all processors of this machine or of a cluster, through Ray Data.

    python classify_on_ray.py photos model.h5 rows
    ray job submit --working-dir . -- python classify_on_ray.py s3://bucket/photos model.h5 s3://bucket/rows
"""
import sys

import ray

from npefficient import Classifier, load_weights

photos, weights, rows = sys.argv[1:]
# num_cpus=0: reading and writing must not wait for processors that the classifiers hold until the end.
job = ray.data.read_binary_files(photos, include_paths=True, num_cpus=0)
job = job.map_batches(Classifier, fn_constructor_kwargs={"weights": load_weights(weights)}, batch_size=None, num_cpus=1)
job.write_parquet(rows, ray_remote_args={"num_cpus": 0})
