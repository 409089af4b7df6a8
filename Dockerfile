# Everything in one image: docker build -t repro . && docker run --rm -v "$PWD/out:/report/_build" repro
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium git make util-linux \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /report
COPY . .
RUN make .venv/.ready
ENV PYTHONUNBUFFERED=1
CMD ["bash", "-c", "make report && make test"]
