# Everything in one image: docker build -t repro . && docker run --rm -v "$PWD/out:/report/_build" repro
FROM python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium git make util-linux \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /report
COPY . .
RUN make .venv/.ready
ENV PYTHONUNBUFFERED=1
CMD ["bash", "-c", "make report && make test"]
