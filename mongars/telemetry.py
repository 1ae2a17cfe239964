"""The names of all metrics, and the OpenTelemetry providers.

Attributes are names, counts and digests, never message text. Without OTEL_EXPORTER_OTLP_ENDPOINT nothing leaves
the process; `/metrics` exposes the same instruments.
"""

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from mongars.errors import SettingsError

# OpenTelemetry's semantic conventions for generative AI.
REQUEST_DURATION = "gen_ai.server.request.duration"
TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105 (a metric's name, not a secret)
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105
HTTP_DURATION = "http.server.request.duration"
# Our own.
ADAPTER_GENERATION = "mongars.adapter.generation"
ADAPTER_LOAD_DURATION = "mongars.adapter.load.duration"
ADAPTER_LOAD_FAILURES = "mongars.adapter.load.failures"
ADAPTER_SKEW = "mongars.adapter.skew"
PUBLISH_DURATION = "mongars.publish.duration"
CACHE_HITS = "mongars.cache.hits"
CACHE_MISSES = "mongars.cache.misses"
CACHE_EVICTIONS = "mongars.cache.evictions"
RECALL_DURATION = "mongars.memory.recall.duration"
AUTH_FAILURES = "mongars.auth.failures"
RATE_LIMIT_REJECTIONS = "mongars.ratelimit.rejections"

meter = metrics.get_meter("mongars")
tracer = trace.get_tracer("mongars")


def configure(service: str, *, otlp_endpoint: str | None, readers: tuple[MetricReader, ...] = ()) -> None:
    """Install the providers, once per process, with `readers` (Prometheus, in the ingress) and OTLP if configured.

    Raises SettingsError when an endpoint is configured but the exporter is not installed.
    """
    resource = Resource.create({"service.name": service})
    all_readers = list(readers)
    tracers = TracerProvider(resource=resource)
    if otlp_endpoint:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ModuleNotFoundError:
            raise SettingsError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed.",
                remedy="Run: pip install 'mongars[otlp]'",
            ) from None
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        all_readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=all_readers))
    trace.set_tracer_provider(tracers)
