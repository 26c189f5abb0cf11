# syntax=docker/dockerfile:1
# One image for every service; the command chooses: `docker run … services.writer`.
# Target `sandbox` adds what imitates the providers, for development only.

FROM python:3.13-slim AS services
WORKDIR /app
COPY requirements/services.txt requirements/
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/services.txt
COPY libs libs
COPY migrations migrations
COPY services services
RUN useradd --uid 10001 --no-create-home contactsync
USER 10001
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HEALTH_HOST=0.0.0.0
# Exec form: the process is PID 1 and gets SIGTERM itself.
ENTRYPOINT ["python", "-m"]

FROM services AS sandbox
USER root
COPY requirements/run.txt requirements/
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/run.txt
COPY sandbox sandbox
COPY local local
USER 10001

FROM services
