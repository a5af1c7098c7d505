"""The operations of a recover step that take most: python benchmarks/profile_step.py [--device cuda]"""

import click
from measure import describe
from setups import Job, first_pixels, job_options, make_networks, make_setting, recover_with_engine
from torch.profiler import ProfilerActivity, profile


@click.command(help=__doc__)
@job_options
@click.option("--iterations", default=4, show_default=True)
@click.option("--rows", default=10, show_default=True, help="Operations that are printed.")
def main(job: Job, iterations: int, rows: int) -> None:
    on_cuda = job.device.type == "cuda"
    setting, x = make_setting(job, make_networks(job), iterations), first_pixels(job)
    recover_with_engine(setting, x)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as found:
        recover_with_engine(setting, x)
    events = found.key_averages()
    took = {
        event.key: event.self_device_time_total if on_cuda else event.self_cpu_time_total for event in events
    }
    click.echo(describe(job.device))
    click.echo(f"{job.batch} images of {job.size}, {' + '.join(job.archs)}, {job.precision}")
    total = sum(took.values())
    for name, value in sorted(took.items(), key=lambda pair: -pair[1])[:rows]:
        click.echo(f"{name[:60]:60s} {value / iterations / 1e3:9.1f} ms {100 * value / total:5.1f} %")
    click.echo(f"{'all operations':60s} {total / iterations / 1e3:9.1f} ms")


if __name__ == "__main__":
    main()
